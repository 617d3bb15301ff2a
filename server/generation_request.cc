#include "server/generation_request.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "server/text/bad_words.h"

namespace latentd {
namespace {

template <typename T>
Status check_range(std::string_view field, T value, T low, T high) {
  // Written so that NaN fails.
  if (value >= low && value <= high) return ok_status();
  return invalid_argument(std::string(field),
                          fmt::format("must be between {} and {}, got {}", low, high, value));
}

Status check_sampling(const GenerationRequest& request, const ServingModel& model) {
  LATENTD_RETURN_IF_ERROR(check_range("temperature", request.temperature.value_or(1.0), 0.0, 2.0));
  const double top_p = request.top_p.value_or(1.0);
  if (!(top_p > 0.0 && top_p <= 1.0)) {
    return invalid_argument("top_p", fmt::format("must be above 0 and at most 1, got {}", top_p));
  }
  LATENTD_RETURN_IF_ERROR(check_range("top_k", request.top_k.value_or(0), -1, 1 << 30));
  LATENTD_RETURN_IF_ERROR(check_range("min_p", request.min_p.value_or(0.0), 0.0, 1.0));
  LATENTD_RETURN_IF_ERROR(check_range("presence_penalty", request.presence_penalty, -2.0, 2.0));
  LATENTD_RETURN_IF_ERROR(check_range("frequency_penalty", request.frequency_penalty, -2.0, 2.0));
  // Logits are divided by it: a smaller one would drive them beyond a float.
  LATENTD_RETURN_IF_ERROR(
      check_range("repetition_penalty", request.repetition_penalty.value_or(1.0), 0.01, 10.0));
  if (request.logit_bias.size() > kMaxLogitBias) {
    return invalid_argument("logit_bias", fmt::format("at most {} tokens, got {}", kMaxLogitBias,
                                                      request.logit_bias.size()));
  }
  for (const auto& [token, bias] : request.logit_bias) {
    LATENTD_RETURN_IF_ERROR(check_token_id("logit_bias", token, model));
    LATENTD_RETURN_IF_ERROR(check_range("logit_bias", bias, -100.0, 100.0));
  }
  return ok_status();
}

std::vector<TokenId> stop_tokens_of(const GenerationRequest& request, const ServingModel& model) {
  std::vector<TokenId> tokens = request.stop_token_ids;
  if (request.ignore_eos) return tokens;
  tokens.insert(tokens.end(), model.end_tokens.begin(), model.end_tokens.end());
  return tokens;
}

Status check_allowed(const GenerationRequest& request, const ServingModel& model) {
  if (!request.allowed_token_ids) return ok_status();
  const std::size_t count = request.allowed_token_ids->size();
  if (count == 0 || count > kMaxAllowedTokens) {
    return invalid_argument("allowed_token_ids",
                            fmt::format("must be 1 to {} ids, got {}", kMaxAllowedTokens, count));
  }
  for (const TokenId token : *request.allowed_token_ids) {
    LATENTD_RETURN_IF_ERROR(check_token_id("allowed_token_ids", token, model));
  }
  if (request.format != OutputFormat::kText ||
      request.tool_use.choice == ToolUse::Choice::kForced) {
    return invalid_argument("allowed_token_ids",
                            "cannot be combined with response_format or a forced call");
  }
  return ok_status();
}

Status check_bad_words(const GenerationRequest& request) {
  if (request.bad_words.size() > kMaxBadWords) {
    return invalid_argument("bad_words", fmt::format("at most {} words, got {}", kMaxBadWords,
                                                     request.bad_words.size()));
  }
  for (const std::string& word : request.bad_words) {
    if (word.empty() || word.size() > kMaxBadWordBytes) {
      return invalid_argument("bad_words", fmt::format("words must have 1 to {} bytes, got {}",
                                                       kMaxBadWordBytes, word.size()));
    }
  }
  return ok_status();
}

Status check_stopping(const GenerationRequest& request, const ServingModel& model) {
  if (request.max_tokens && *request.max_tokens < 0) {
    return invalid_argument("max_tokens",
                            fmt::format("must be at least 0, got {}", *request.max_tokens));
  }
  if (request.min_tokens < 0) {
    return invalid_argument("min_tokens",
                            fmt::format("must be at least 0, got {}", request.min_tokens));
  }
  if (request.max_tokens && request.min_tokens > *request.max_tokens) {
    return invalid_argument("min_tokens", fmt::format("must be at most max_tokens ({}), got {}",
                                                      *request.max_tokens, request.min_tokens));
  }
  if (request.stop.size() > kMaxStopStrings) {
    return invalid_argument(
        "stop", fmt::format("at most {} strings, got {}", kMaxStopStrings, request.stop.size()));
  }
  for (const std::string& stop : request.stop) {
    if (stop.empty() || stop.size() > kMaxStopBytes) {
      return invalid_argument("stop", fmt::format("strings must have 1 to {} bytes, got {}",
                                                  kMaxStopBytes, stop.size()));
    }
  }
  if (request.stop_token_ids.size() > kMaxStopTokens) {
    return invalid_argument("stop_token_ids", fmt::format("at most {} ids, got {}", kMaxStopTokens,
                                                          request.stop_token_ids.size()));
  }
  for (const TokenId token : request.stop_token_ids) {
    LATENTD_RETURN_IF_ERROR(check_token_id("stop_token_ids", token, model));
  }
  return ok_status();
}

Status check_prompts(const GenerationRequest& request, const ServingModel& model) {
  if (request.prompts.empty()) return invalid_argument("prompt", "must not be empty");
  const int most = model.limits.max_choices;
  LATENTD_RETURN_IF_ERROR(check_range("n", request.n, 1, most));
  if (request.prompts.size() * static_cast<std::size_t>(request.n) >
      static_cast<std::size_t>(most)) {
    return invalid_argument("n", fmt::format("n x prompts must be at most {}, got {} x {}", most,
                                             request.n, request.prompts.size()));
  }
  for (const Prompt& prompt : request.prompts) {
    const auto* tokens = std::get_if<std::vector<TokenId>>(&prompt);
    if (tokens == nullptr) continue;
    if (tokens->empty()) return invalid_argument("prompt", "must have at least one token");
    for (const TokenId token : *tokens) {
      LATENTD_RETURN_IF_ERROR(check_token_id("prompt", token, model));
    }
  }
  return ok_status();
}

Status too_long(const ServingModel& model, std::string_view bound, std::size_t prompt_tokens,
                int max_tokens) {
  return Status(
      StatusCode::kOutOfRange,
      fmt::format("the model's context is {} tokens, but {}{} were asked for ({} in the "
                  "prompt, {} to generate)",
                  model.info.max_model_len, bound,
                  prompt_tokens + static_cast<std::size_t>(max_tokens), prompt_tokens, max_tokens));
}

// The tokens of a text, `wanted` of which are to follow.
Result<std::vector<TokenId>> tokens_of(const std::string& text, bool add_special_tokens, int wanted,
                                       const ServingModel& model) {
  const std::size_t fewest = text.size() / model.longest_token_bytes;
  if (fewest > static_cast<std::size_t>(model.info.max_model_len)) {
    return too_long(model, "at least ", fewest, wanted);
  }
  auto tokens = model.tokenizer->encode(text, add_special_tokens);
  if (tokens.empty()) {
    return Status(StatusCode::kInvalidArgument, "must have at least one token");
  }
  // A tokenizer that knows more ids than the model has logits would index past the embedding.
  for (const TokenId token : tokens) LATENTD_RETURN_IF_ERROR(check_token_id("", token, model));
  return tokens;
}

// Of a conversation, `prompt` becomes its text.
Result<PreparedGeneration::Input> prepare_input(const GenerationRequest& request, Prompt& prompt,
                                                const ServingModel& model) {
  const auto context = static_cast<std::size_t>(model.info.max_model_len);
  // Of a request that says nothing, at least one token must fit behind the prompt.
  const int wanted = request.max_tokens.value_or(1);
  bool add_special_tokens = request.add_special_tokens;
  if (const auto* chat = std::get_if<ChatPrompt>(&prompt)) {
    LATENTD_ASSIGN_OR_RETURN(std::string text, render_chat(*chat, model));
    prompt = std::move(text);
    add_special_tokens = false;  // the template has them
  }
  PreparedGeneration::Input input;
  if (const auto* text = std::get_if<std::string>(&prompt)) {
    LATENTD_ASSIGN_OR_RETURN(input.tokens, tokens_of(*text, add_special_tokens, wanted, model));
  } else {
    input.tokens = std::get<std::vector<TokenId>>(prompt);
  }
  if (input.tokens.size() + static_cast<std::size_t>(wanted) > context) {
    return too_long(model, "", input.tokens.size(), wanted);
  }
  const int room = static_cast<int>(context - input.tokens.size());
  input.max_new_tokens = request.max_tokens.value_or(std::min(request.default_max_tokens, room));
  return input;
}

// Null when the request holds its text to nothing.
Result<std::unique_ptr<TokenConstraint>> make_format_constraint(const GenerationRequest& request,
                                                                const ServingModel& model) {
  const bool forced = request.tool_use.choice == ToolUse::Choice::kForced;
  if (request.format == OutputFormat::kText && !forced) return std::unique_ptr<TokenConstraint>();
  if (request.format == OutputFormat::kJsonObject) return model.structured->json_object();
  std::string schema = request.json_schema;
  if (forced) {
    LATENTD_ASSIGN_OR_RETURN(schema, forced_call_schema(request.tool_use));
  }
  auto constraint = model.structured->json_schema(schema);
  if (constraint.ok()) return constraint;
  return invalid_argument(forced ? "tools" : "response_format", constraint.status().message());
}

Result<std::unique_ptr<TokenConstraint>> make_constraint(const GenerationRequest& request,
                                                         const ServingModel& model) {
  LATENTD_ASSIGN_OR_RETURN(auto constraint, make_format_constraint(request, model));
  if (request.bad_words.empty()) return constraint;
  return forbid_words(request.bad_words, *model.tokenizer, std::move(constraint));
}

// That what holds the text leaves a first token. A later one may still be lacking, which ends the
// request with the same error.
Status check_first_token(const PreparedGeneration& prepared, const ServingModel& model) {
  const GenerationRequest& request = prepared.request;
  if (!request.allowed_token_ids || request.max_tokens == 0) return ok_status();
  const std::size_t words = (static_cast<std::size_t>(model.config.vocab_size) + 31) / 32;
  std::vector<std::uint32_t> possible(words, ~0U);
  if (!prepared.constraints.empty()) prepared.constraints.front()->fill_mask(possible);
  std::vector<std::uint32_t> mask(words, 0U);
  for (const TokenId token : *request.allowed_token_ids) {
    const auto word = static_cast<std::size_t>(token) / 32;
    mask[word] |= possible[word] & (1U << (token % 32));
  }
  std::vector<TokenId> banned;
  if (request.min_tokens > 0) banned = stop_tokens_of(request, model);
  return leaves_a_token(mask, banned) ? ok_status() : nothing_to_draw(request, 0);
}

float to_float(double value) { return static_cast<float>(value); }

SamplingParams sampling_of(const GenerationRequest& request, const GenerationDefaults& defaults) {
  SamplingParams sampling;
  sampling.temperature =
      request.temperature ? to_float(*request.temperature) : defaults.temperature.value_or(1.0F);
  sampling.top_p = request.top_p ? to_float(*request.top_p) : defaults.top_p.value_or(1.0F);
  sampling.top_k = std::max(0, request.top_k ? *request.top_k : defaults.top_k.value_or(0));
  sampling.min_p = request.min_p ? to_float(*request.min_p) : defaults.min_p.value_or(0.0F);
  sampling.repetition_penalty = request.repetition_penalty
                                    ? to_float(*request.repetition_penalty)
                                    : defaults.repetition_penalty.value_or(1.0F);
  sampling.presence_penalty = to_float(request.presence_penalty);
  sampling.frequency_penalty = to_float(request.frequency_penalty);
  for (const auto& [token, bias] : request.logit_bias) {
    sampling.logit_bias.emplace_back(token, to_float(bias));
  }
  if (request.allowed_token_ids) sampling.allowed_tokens = *request.allowed_token_ids;
  // One number serves both: whoever shows them shows as many as were asked for.
  sampling.num_top_logprobs = std::max(request.logprobs, request.prompt_logprobs);
  return sampling;
}

}  // namespace

Status check_model_name(const std::string& name, const ServingModel& model) {
  if (name.empty() || model.is_called(name)) return ok_status();
  return Status(StatusCode::kNotFound, fmt::format("the model `{}` does not exist", name))
      .with_field("model");
}

Status check_token_id(std::string_view field, TokenId token, const ServingModel& model) {
  if (token >= 0 && token < model.config.vocab_size) return ok_status();
  return invalid_argument(std::string(field),
                          fmt::format("token ids must be between 0 and {}, got {}",
                                      model.config.vocab_size - 1, token));
}

Status validate(const GenerationRequest& request, const ServingModel& model) {
  LATENTD_RETURN_IF_ERROR(check_model_name(request.model, model));
  LATENTD_RETURN_IF_ERROR(check_prompts(request, model));
  LATENTD_RETURN_IF_ERROR(check_stopping(request, model));
  LATENTD_RETURN_IF_ERROR(check_sampling(request, model));
  LATENTD_RETURN_IF_ERROR(check_allowed(request, model));
  if (request.cache_salt.size() > kMaxCacheSalt) {
    return invalid_argument("cache_salt", fmt::format("must have at most {} bytes, got {}",
                                                      kMaxCacheSalt, request.cache_salt.size()));
  }
  LATENTD_RETURN_IF_ERROR(check_bad_words(request));
  if (request.tool_use.choice == ToolUse::Choice::kForced &&
      request.format != OutputFormat::kText) {
    return invalid_argument("tool_choice", "a forced call leaves no room for a response_format");
  }
  const int most = model.limits.max_logprobs;
  LATENTD_RETURN_IF_ERROR(check_range("logprobs", std::max(request.logprobs, 0), 0, most));
  return check_range("prompt_logprobs", std::max(request.prompt_logprobs, 0), 0, most);
}

Status nothing_to_draw(const GenerationRequest& request, int generated) {
  std::vector<std::string_view> fields;
  if (request.allowed_token_ids) fields.emplace_back("allowed_token_ids");
  if (request.tool_use.choice == ToolUse::Choice::kForced) fields.emplace_back("tool_choice");
  if (request.format != OutputFormat::kText) fields.emplace_back("response_format");
  if (!request.bad_words.empty()) fields.emplace_back("bad_words");
  if (request.min_tokens > generated) fields.emplace_back("min_tokens");
  return invalid_argument(fields.empty() ? "" : std::string(fields.front()),
                          fmt::format("{} leave nothing to generate after {} tokens",
                                      fmt::join(fields, " and "), generated));
}

Result<PreparedGeneration> prepare(GenerationRequest request, const ServingModel& model) {
  LATENTD_RETURN_IF_ERROR(validate(request, model));
  PreparedGeneration prepared;
  for (Prompt& prompt : request.prompts) {
    request.is_conversation = std::holds_alternative<ChatPrompt>(prompt);
    const char* field = request.is_conversation ? "messages" : "prompt";
    auto input = prepare_input(request, prompt, model);
    if (!input.ok() && !input.status().field().empty()) return input.status();
    if (!input.ok()) {
      return Status(input.status().code(), input.status().message()).with_field(field);
    }
    prepared.inputs.push_back(*std::move(input));
  }
  prepared.request = std::move(request);
  for (int choice = 0; choice < prepared.num_choices(); ++choice) {
    LATENTD_ASSIGN_OR_RETURN(auto constraint, make_constraint(prepared.request, model));
    if (constraint == nullptr) break;
    prepared.constraints.push_back(std::move(constraint));
  }
  LATENTD_RETURN_IF_ERROR(check_first_token(prepared, model));
  return prepared;
}

std::unique_ptr<Request> make_engine_request(PreparedGeneration& prepared,
                                             const ServingModel& model, int choice, RequestId id,
                                             std::uint64_t random_seed) {
  const GenerationRequest& asked = prepared.request;
  const auto& input = prepared.inputs[static_cast<std::size_t>(prepared.input_of(choice))];
  auto request = std::make_unique<Request>();
  request->id = id;
  request->prompt = input.tokens;
  request->sampling = sampling_of(asked, model.defaults);
  // Choices of one prompt differ by their seeds; the same choice of two prompts shares one.
  request->sampling.seed =
      asked.seed.value_or(random_seed) + static_cast<std::uint64_t>(choice % asked.n);
  request->max_new_tokens = input.max_new_tokens;
  request->min_new_tokens = std::min(asked.min_tokens, input.max_new_tokens);
  request->stop_tokens = stop_tokens_of(asked, model);
  if (request->min_new_tokens > 0) {
    request->sampling.banned_until_min_tokens = request->stop_tokens;
  }
  request->wants_prompt_logprobs = asked.prompt_logprobs >= 0;
  request->priority = asked.priority;
  request->deadline = asked.deadline;
  if (!prepared.constraints.empty()) {
    request->constraint = std::move(prepared.constraints[static_cast<std::size_t>(choice)]);
  }
  return request;
}

}  // namespace latentd
