#include "server/http/chat_request.h"

#include <nlohmann/json.hpp>

#include "server/chat_messages.h"
#include "server/json_value.h"

namespace latentd {
namespace {

constexpr RefusedField kRefused[] = {
    {"functions", "is not supported: use tools"},
    {"function_call", "is not supported: use tool_choice"},
    {"chat_template", "is not supported: the model's own is used"},
    {"audio", "is not supported: the model writes text alone"},
    {"web_search_options", "is not supported: nothing is fetched"},
    {"echo", "is not supported here: use /v1/completions"},
    {"best_of", "is not supported: use n"},
};

void read_lengths(JsonFields& fields, ChatRequest& request) {
  std::optional<int> newer;
  fields.read("max_completion_tokens", newer);
  if (!newer) return;
  request.generation.max_tokens = newer;
  request.spelled_max_completion_tokens = true;
}

void read_logprobs(JsonFields& fields, GenerationRequest& generation) {
  bool wanted = false;
  int top = 0;
  fields.read("logprobs", wanted);
  fields.read("top_logprobs", top);
  if (top < 0 || top > kMaxLogprobs) {
    return fields.fault("top_logprobs", "must be between 0 and " + std::to_string(kMaxLogprobs) +
                                            ", got " + std::to_string(top));
  }
  if (top > 0 && !wanted) return fields.fault("top_logprobs", "needs logprobs to be true");
  if (wanted) generation.logprobs = top;
}

void read_modalities(JsonFields& fields) {
  const Json* modalities = fields.find("modalities");
  if (modalities == nullptr || *modalities == Json::array({"text"})) return;
  fields.fault("modalities", "must be [\"text\"]: the model writes text alone");
}

// A field's name as this route's clients know it.
std::string chat_spelling(const std::string& field, const ChatRequest& request) {
  if (field == "logprobs") return "top_logprobs";
  if (field == "max_tokens" && request.spelled_max_completion_tokens) {
    return "max_completion_tokens";
  }
  return field;
}

}  // namespace

Result<ChatInput> read_chat_input(JsonFields& fields, std::string_view text) {
  ChatInput input;
  ChatPrompt& prompt = input.prompt;
  bool parallel = true;
  fields.read("parallel_tool_calls", parallel);
  fields.read("add_generation_prompt", prompt.add_generation_prompt);
  fields.read("continue_final_message", prompt.continue_final_message);
  std::string effort;
  fields.read("reasoning_effort", effort);
  LATENTD_RETURN_IF_ERROR(fields.status());
  LATENTD_RETURN_IF_ERROR(check_continuation(prompt));
  const jinja::Value body = value_of_json(text);
  const auto member = [&body](std::string_view name) {
    const jinja::Value* value = body.map().find(name);
    return value == nullptr ? jinja::Value::none() : *value;
  };
  LATENTD_RETURN_IF_ERROR(read_messages(member("messages"), prompt));
  LATENTD_RETURN_IF_ERROR(read_tools(member("tools"), prompt));
  // Templates that know it look for it under its name; what the client gives its template wins.
  if (!effort.empty()) prompt.more.emplace_back("reasoning_effort", jinja::Value::string(effort));
  LATENTD_RETURN_IF_ERROR(read_template_kwargs(member("chat_template_kwargs"), prompt));
  LATENTD_RETURN_IF_ERROR(read_documents(member("documents"), prompt));
  LATENTD_ASSIGN_OR_RETURN(input.tool_use,
                           read_tool_use(member("tool_choice"), prompt.tools, parallel));
  if (input.tool_use.choice == ToolUse::Choice::kNone) prompt.tools = jinja::Value::none();
  return input;
}

Result<ChatRequest> parse_chat(std::string_view body) {
  LATENTD_ASSIGN_OR_RETURN(const Json json, parse_body(body));
  ChatRequest request;
  JsonFields fields(json);
  read_generation_fields(fields, request.generation);
  read_output_fields(fields, request.output);
  read_lengths(fields, request);
  read_logprobs(fields, request.generation);
  read_prompt_logprobs(fields, request.output, request.generation);
  read_modalities(fields);
  read_response_format(fields, body, request.generation);
  check_refused(fields, kRefusedEverywhere);
  check_refused(fields, kRefused);
  LATENTD_RETURN_IF_ERROR(fields.status());
  LATENTD_ASSIGN_OR_RETURN(ChatInput input, read_chat_input(fields, body));
  request.generation.prompts.emplace_back(std::move(input.prompt));
  request.generation.tool_use = std::move(input.tool_use);
  return request;
}

Result<PreparedGeneration> prepare_chat(const ChatRequest& request, const ServingModel& model) {
  GenerationRequest generation = request.generation;
  generation.default_max_tokens = model.default_max_tokens;
  auto prepared = prepare(std::move(generation), model);
  if (prepared.ok()) return prepared;
  const Status& status = prepared.status();
  return Status(status.code(), status.message()).with_field(chat_spelling(status.field(), request));
}

}  // namespace latentd
