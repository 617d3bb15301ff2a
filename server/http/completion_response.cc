#include "server/http/completion_response.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "server/characters.h"
#include "server/http/response_json.h"
#include "server/text/detokenizer.h"

namespace latentd {
namespace {

// The legacy logprobs object as it grows, four lists of one length.
class LegacyLogprobs final {
 public:
  explicit LegacyLogprobs(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void add_first_of_prompt(TokenId token) {
    tokens_.push_back(token_string(tokenizer_, token));
    values_.push_back(nullptr);
    tops_.push_back(nullptr);
    offsets_.push_back(0);
  }

  void add(const TokenPiece& piece, int offset) {
    tokens_.push_back(token_string(tokenizer_, piece.token.token));
    values_.push_back(clamp_logprob(piece.token.logprob));
    OrderedJson top = OrderedJson::object();
    for (const TokenLogprob& entry : piece.top) {
      const std::string text = token_string(tokenizer_, entry.token);
      if (!top.contains(text)) top[text] = clamp_logprob(entry.logprob);
    }
    // The token itself is always there, even when it is not among the most likely.
    const auto& own = tokens_.back().get_ref<const std::string&>();
    if (!top.contains(own)) top[own] = values_.back();
    tops_.push_back(std::move(top));
    offsets_.push_back(offset);
  }

  OrderedJson take() {
    OrderedJson json;
    json["tokens"] = std::move(tokens_);
    json["token_logprobs"] = std::move(values_);
    json["top_logprobs"] = std::move(tops_);
    json["text_offset"] = std::move(offsets_);
    return json;
  }

 private:
  const Tokenizer& tokenizer_;
  OrderedJson tokens_ = OrderedJson::array();
  OrderedJson values_ = OrderedJson::array();
  OrderedJson tops_ = OrderedJson::array();
  OrderedJson offsets_ = OrderedJson::array();
};

}  // namespace

struct CompletionResponse::Chunk {
  OrderedJson json;
};

CompletionResponse::CompletionResponse(const CompletionRequest& request,
                                       const PreparedGeneration& prepared,
                                       const ServingModel& model, std::string id)
    : model_(model),
      id_(std::move(id)),
      stream_(request.output.stream),
      include_usage_(request.output.include_usage),
      continuous_usage_(request.output.continuous_usage),
      echo_(request.echo),
      return_token_ids_(request.output.return_token_ids),
      logprobs_(request.logprobs),
      prompt_logprobs_(prepared.request.prompt_logprobs >= 0 &&
                       !(request.echo && request.logprobs)),
      cost_(request.output.cost),
      shown_(request.n),
      skip_special_tokens_(prepared.request.skip_special_tokens),
      created_(unix_seconds_now()) {
  for (std::size_t i = 0; i < prepared.inputs.size(); ++i) {
    add_prompt(prepared.request.prompts[i], prepared.inputs[i].tokens);
  }
  choices_.resize(static_cast<std::size_t>(prepared.num_choices()));
  for (std::size_t i = 0; i < choices_.size(); ++i) {
    choices_[i].prompt = static_cast<std::size_t>(prepared.input_of(static_cast<int>(i)));
    choices_[i].pending.choice = static_cast<int>(i);
  }
}

void CompletionResponse::add_prompt(const Prompt& prompt, const std::vector<TokenId>& tokens) {
  PromptText& out = prompts_.emplace_back();
  if (echo_ || return_token_ids_) out.tokens = tokens;
  if (!echo_) return;
  Detokenizer detokenizer(*model_.tokenizer, skip_special_tokens_);
  std::string decoded;
  for (const TokenId token : tokens) {
    out.offsets.push_back(out.num_chars);
    const std::string text = detokenizer.push(token);
    out.num_chars += count_characters(text);
    decoded += text;
  }
  decoded += detokenizer.finish();
  // A text comes back as it was sent, whatever the tokenizer made of it.
  const auto* text = std::get_if<std::string>(&prompt);
  if (text != nullptr) decoded = *text;
  out.text = std::move(decoded);
  out.num_chars = count_characters(out.text);
}

void CompletionResponse::merge(ChoiceDelta delta) {
  ChoiceDelta& pending = choices_[static_cast<std::size_t>(delta.choice)].pending;
  pending.text += delta.text;
  std::ranges::move(delta.tokens, std::back_inserter(pending.tokens));
  std::ranges::move(delta.prompt_tokens, std::back_inserter(pending.prompt_tokens));
  if (delta.finish) pending.finish = std::move(delta.finish);
}

bool CompletionResponse::is_due(const Choice& choice) const {
  const ChoiceDelta& pending = choice.pending;
  if (pending.finish) return true;
  const bool echo_now = echo_ && !choice.begun;
  // All logprobs of the prompt go out in one event, before anything that was generated.
  if (echo_now && logprobs_ &&
      pending.prompt_tokens.size() + 1 < prompts_[choice.prompt].tokens.size()) {
    return false;
  }
  return echo_now || !pending.text.empty() ||
         ((logprobs_ || return_token_ids_) && !pending.tokens.empty());
}

CompletionResponse::Chunk CompletionResponse::render(Choice& choice) const {
  const PromptText& prompt = prompts_[choice.prompt];
  const ChoiceDelta& delta = choice.pending;
  const bool echo_now = echo_ && !choice.begun;
  OrderedJson json;
  json["index"] = delta.choice;
  json["text"] = (echo_now ? prompt.text : std::string()) + delta.text;
  json["logprobs"] = nullptr;
  if (logprobs_) {
    LegacyLogprobs logprobs(*model_.tokenizer);
    if (echo_now && !prompt.tokens.empty()) {
      logprobs.add_first_of_prompt(prompt.tokens.front());
      for (std::size_t i = 0; i < delta.prompt_tokens.size() && i + 1 < prompt.offsets.size();
           ++i) {
        logprobs.add(delta.prompt_tokens[i], prompt.offsets[i + 1]);
      }
    }
    const int base = echo_ ? prompt.num_chars : 0;
    for (const TokenPiece& piece : delta.tokens) logprobs.add(piece, base + piece.text_offset);
    json["logprobs"] = logprobs.take();
  }
  json["finish_reason"] = finish_reason_json(delta.finish);
  json["stop_reason"] = stop_reason_json(delta.finish);
  if (return_token_ids_) {
    json["token_ids"] = ids_json(delta.tokens);
    json["prompt_token_ids"] = nullptr;
    if (!choice.begun) json["prompt_token_ids"] = prompt.tokens;
  }
  if (prompt_logprobs_) {
    json["prompt_logprobs"] = prompt_logprobs_json(*model_.tokenizer, delta.prompt_tokens);
  }
  choice.begun = true;
  ChoiceDelta fresh;
  fresh.choice = delta.choice;
  choice.pending = std::move(fresh);
  return {std::move(json)};
}

void CompletionResponse::append_events(const GenerationUpdate& update, std::string& out) {
  const auto event = [this](OrderedJson choices) {
    OrderedJson json;
    json["id"] = id_;
    json["object"] = "text_completion";
    json["created"] = created_;
    json["model"] = model_.name();
    json["choices"] = std::move(choices);
    return json;
  };
  for (const ChoiceDelta& delta : update.choices) {
    merge(delta);
    Choice& choice = choices_[static_cast<std::size_t>(delta.choice)];
    if (!is_due(choice)) continue;
    OrderedJson json = event(OrderedJson::array({std::move(render(choice).json)}));
    if (include_usage_) json["usage"] = nullptr;
    if (continuous_usage_) json["usage"] = usage_json(update.usage, cost_);
    append_sse(out, dump(json));
  }
  if (!update.done) return;
  if (include_usage_) {
    OrderedJson json = event(OrderedJson::array());
    json["usage"] = usage_json(update.usage, cost_);
    append_sse(out, dump(json));
  }
  out += kSseDone;
}

void CompletionResponse::collect(GenerationUpdate update) {
  for (ChoiceDelta& delta : update.choices) merge(std::move(delta));
  usage_ = update.usage;
}

// Of each prompt's choices, those with the highest logprob as a whole, the best first.
void CompletionResponse::keep_best() {
  const std::size_t made = choices_.size() / prompts_.size();
  const auto shown = static_cast<std::size_t>(shown_);
  if (made == shown) return;
  const auto logprob = [](const Choice& choice) {
    double sum = 0.0;
    for (const TokenPiece& piece : choice.pending.tokens) sum += clamp_logprob(piece.token.logprob);
    return sum;
  };
  std::vector<Choice> best;
  for (std::size_t first = 0; first < choices_.size(); first += made) {
    const auto begin = choices_.begin() + static_cast<std::ptrdiff_t>(first);
    const auto end = begin + static_cast<std::ptrdiff_t>(made);
    std::stable_sort(begin, end,
                     [&](const Choice& a, const Choice& b) { return logprob(a) > logprob(b); });
    std::move(begin, begin + shown_, std::back_inserter(best));
  }
  choices_ = std::move(best);
  for (std::size_t i = 0; i < choices_.size(); ++i)
    choices_[i].pending.choice = static_cast<int>(i);
}

std::string CompletionResponse::body() {
  keep_best();
  OrderedJson json;
  json["id"] = id_;
  json["object"] = "text_completion";
  json["created"] = created_;
  json["model"] = model_.name();
  OrderedJson choices = OrderedJson::array();
  for (Choice& choice : choices_) choices.push_back(std::move(render(choice).json));
  json["choices"] = std::move(choices);
  json["usage"] = usage_json(usage_, cost_);
  return dump(json);
}

}  // namespace latentd
