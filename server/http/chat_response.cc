#include "server/http/chat_response.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "server/http/response_json.h"

namespace latentd {
namespace {

// Of a stream, a part of a call carries its index, and its id and name only at its beginning.
OrderedJson call_json(const ToolCallDelta& call, bool streamed) {
  OrderedJson json = OrderedJson::object();
  OrderedJson function = OrderedJson::object();
  if (streamed) json["index"] = call.index;
  if (!call.id.empty()) {
    json["id"] = call.id;
    json["type"] = "function";
    function["name"] = call.name;
  }
  function["arguments"] = call.arguments;
  json["function"] = std::move(function);
  return json;
}

OrderedJson calls_json(const std::vector<ToolCallDelta>& calls, bool streamed) {
  OrderedJson list = OrderedJson::array();
  for (const ToolCallDelta& call : calls) list.push_back(call_json(call, streamed));
  return list;
}

}  // namespace

ChatResponse::ChatResponse(const ChatRequest& request, const PreparedGeneration& prepared,
                           const ServingModel& model, std::string id)
    : model_(model),
      id_(std::move(id)),
      output_(request.output),
      logprobs_(prepared.request.logprobs >= 0),
      prompt_logprobs_(prepared.request.prompt_logprobs >= 0),
      created_(unix_seconds_now()) {
  if (output_.return_token_ids) prompt_tokens_ = prepared.inputs.front().tokens;
  const auto& prompt = std::get<std::string>(prepared.request.prompts.front());
  for (int i = 0; i < prepared.num_choices(); ++i) {
    choices_.emplace_back(ChatOutput(prepared.request, model, prompt));
  }
}

ChatResponse::Choice& ChatResponse::merge(const ChoiceDelta& delta) {
  Choice& choice = choices_[static_cast<std::size_t>(delta.choice)];
  choice.parts.append(choice.output.push(delta.text));
  if (delta.finish) choice.parts.append(choice.output.finish());
  choice.tokens.insert(choice.tokens.end(), delta.tokens.begin(), delta.tokens.end());
  choice.prompt_tokens.insert(choice.prompt_tokens.end(), delta.prompt_tokens.begin(),
                              delta.prompt_tokens.end());
  if (delta.finish) choice.finish = delta.finish;
  return choice;
}

OrderedJson ChatResponse::logprobs_of(const std::vector<TokenPiece>& tokens) const {
  if (!logprobs_) return nullptr;
  return {{"content", token_logprobs_json(*model_.tokenizer, tokens)}, {"refusal", nullptr}};
}

OrderedJson ChatResponse::head(const char* object) const {
  OrderedJson json;
  json["id"] = id_;
  json["object"] = object;
  json["created"] = created_;
  json["model"] = model_.name();
  return json;
}

void ChatResponse::append_event(OrderedJson choice, const Usage& usage, std::string& out) const {
  OrderedJson json = head("chat.completion.chunk");
  const bool opens = choice["delta"].contains("role");
  json["choices"] = OrderedJson::array({std::move(choice)});
  if (opens && output_.return_token_ids) json["prompt_token_ids"] = prompt_tokens_;
  if (output_.continuous_usage) {
    json["usage"] = usage_json(usage, output_.cost);
  } else if (output_.include_usage) {
    json["usage"] = nullptr;
  }
  append_sse(out, dump(json));
}

void ChatResponse::append_choice(int index, Choice& choice, const Usage& usage,
                                 std::string& out) const {
  const auto event = [index](OrderedJson delta) {
    OrderedJson json;
    json["index"] = index;
    json["delta"] = std::move(delta);
    json["logprobs"] = nullptr;
    json["finish_reason"] = nullptr;
    return json;
  };
  if (!std::exchange(choice.begun, true)) {
    append_event(event({{"role", "assistant"}, {"content", ""}}), usage, out);
  }
  const bool tokens_are_due = (logprobs_ || output_.return_token_ids) && !choice.tokens.empty();
  if (!choice.parts.empty() || tokens_are_due) {
    const auto parts = std::exchange(choice.parts, {});
    OrderedJson delta = OrderedJson::object();
    if (!parts.thoughts.empty()) delta["reasoning_content"] = parts.thoughts;
    if (!parts.content.empty() || parts.empty()) delta["content"] = parts.content;
    if (!parts.calls.empty()) delta["tool_calls"] = calls_json(parts.calls, true);
    OrderedJson json = event(std::move(delta));
    json["logprobs"] = logprobs_of(choice.tokens);
    if (output_.return_token_ids) json["token_ids"] = ids_json(choice.tokens);
    append_event(std::move(json), usage, out);
  }
  choice.tokens.clear();
  if (!choice.finish) return;
  OrderedJson json = event(OrderedJson::object());
  json["finish_reason"] = finish_reason_json(choice.finish, choice.output.has_calls());
  json["stop_reason"] = stop_reason_json(choice.finish);
  append_event(std::move(json), usage, out);
}

void ChatResponse::append_events(const GenerationUpdate& update, std::string& out) {
  for (const ChoiceDelta& delta : update.choices) {
    append_choice(delta.choice, merge(delta), update.usage, out);
  }
  if (!update.done) return;
  if (output_.include_usage) {
    OrderedJson json = head("chat.completion.chunk");
    json["choices"] = OrderedJson::array();
    json["usage"] = usage_json(update.usage, output_.cost);
    append_sse(out, dump(json));
  }
  out += kSseDone;
}

void ChatResponse::collect(GenerationUpdate update) {
  for (const ChoiceDelta& delta : update.choices) merge(delta);
  usage_ = update.usage;
}

OrderedJson ChatResponse::whole_choice(int index, const Choice& choice) const {
  const ChatOutput::Parts& parts = choice.parts;
  OrderedJson message;
  message["role"] = "assistant";
  message["content"] = parts.content;
  if (parts.content.empty() && !parts.calls.empty()) message["content"] = nullptr;
  message["refusal"] = nullptr;
  if (choice.output.reasons()) {
    message["reasoning_content"] = nullptr;
    if (!parts.thoughts.empty()) message["reasoning_content"] = parts.thoughts;
  }
  if (!parts.calls.empty()) message["tool_calls"] = calls_json(parts.calls, false);
  OrderedJson json;
  json["index"] = index;
  json["message"] = std::move(message);
  json["logprobs"] = logprobs_of(choice.tokens);
  json["finish_reason"] = finish_reason_json(choice.finish, choice.output.has_calls());
  json["stop_reason"] = stop_reason_json(choice.finish);
  if (output_.return_token_ids) json["token_ids"] = ids_json(choice.tokens);
  return json;
}

std::string ChatResponse::body() {
  OrderedJson json = head("chat.completion");
  OrderedJson choices = OrderedJson::array();
  for (std::size_t i = 0; i < choices_.size(); ++i) {
    choices.push_back(whole_choice(static_cast<int>(i), choices_[i]));
  }
  json["choices"] = std::move(choices);
  json["usage"] = usage_json(usage_, output_.cost);
  if (output_.return_token_ids) json["prompt_token_ids"] = prompt_tokens_;
  if (prompt_logprobs_) {
    json["prompt_logprobs"] =
        prompt_logprobs_json(*model_.tokenizer, choices_.front().prompt_tokens);
  }
  return dump(json);
}

}  // namespace latentd
