#include "server/http/responses_request.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "server/chat_messages.h"
#include "server/json_value.h"

namespace latentd {
namespace {

using jinja::Kind;
using jinja::MapBuilder;
using jinja::Value;
using OrderedJson = nlohmann::ordered_json;

constexpr const char* kStateless = "is not supported: this server keeps no responses";
constexpr RefusedField kRefused[] = {
    {"previous_response_id", kStateless},
    {"conversation", kStateless},
    {"background", kStateless},
    {"store", "must be false: this server keeps no responses"},
    {"prompt", "is not supported: this server keeps no prompts"},
    {"n", "is not supported here: an answer has one choice"},
    {"max_tokens", "is not supported here: use max_output_tokens"},
    {"response_format", "is not supported here: use text.format"},
    {"stop_sequences", "is not supported: use stop"},
};

// Null when absent or none.
const Value* member(const Value& map, std::string_view name) {
  if (!map.is(Kind::kMap)) return nullptr;
  const Value* value = map.map().find(name);
  return value == nullptr || value->is(Kind::kNone) ? nullptr : value;
}

bool is_text(const Value* value, std::string_view text) {
  return value != nullptr && value->is_string() && value->bytes() == text;
}

Value message_of(std::string_view role, Value content) {
  MapBuilder map;
  map.set("role", Value::string(role));
  map.set("content", std::move(content));
  return std::move(map).build();
}

// The parts of a message's content under the names that chats have for them.
Value chat_content(const Value& content) {
  if (!content.is(Kind::kSequence)) return content;
  std::vector<Value> parts;
  for (const Value& part : content.sequence()->items) {
    const Value* type = member(part, "type");
    if (!is_text(type, "input_text") && !is_text(type, "output_text")) {
      parts.push_back(part);
      continue;
    }
    MapBuilder map;
    map.set("type", Value::string("text"));
    if (const Value* text = member(part, "text")) map.set("text", *text);
    parts.push_back(std::move(map).build());
  }
  return Value::list(std::move(parts));
}

Value call_of(const Value& item) {
  MapBuilder function;
  for (const char* name : {"name", "arguments"}) {
    if (const Value* value = member(item, name)) function.set(name, *value);
  }
  MapBuilder call;
  if (const Value* id = member(item, "call_id")) call.set("id", *id);
  call.set("type", Value::string("function"));
  call.set("function", std::move(function).build());
  return std::move(call).build();
}

// The messages of a chat, as they grow out of items.
class Messages final {
 public:
  void add_instructions(const Value& text) { add(-1, message_of("system", text)); }
  void add_text(const Value& text) { add(0, message_of("user", text)); }

  Status add_item(int index, const Value& item) {
    const std::string path = "input[" + std::to_string(index) + "]";
    if (!item.is(Kind::kMap)) return invalid_argument(path, "must be an object");
    if (const Value* id = member(item, "call_id"); id != nullptr && !id->is_string()) {
      return invalid_argument(path + ".call_id", "must be a string");
    }
    const Value* type = member(item, "type");
    if (type == nullptr || is_text(type, "message")) {
      MapBuilder map;
      if (const Value* role = member(item, "role")) map.set("role", *role);
      if (const Value* content = member(item, "content"))
        map.set("content", chat_content(*content));
      add(index, std::move(map).build());
    } else if (is_text(type, "function_call")) {
      add_call(index, call_of(item));
    } else if (is_text(type, "function_call_output")) {
      const Value* output = member(item, "output");
      MapBuilder map;
      map.set("role", Value::string("tool"));
      map.set("content", output == nullptr ? Value::none() : chat_content(*output));
      if (const Value* id = member(item, "call_id")) map.set("tool_call_id", *id);
      add(index, std::move(map).build());
    } else if (!is_text(type, "reasoning")) {  // thoughts of earlier turns are not shown again
      return invalid_argument(path + ".type",
                              "must be message, function_call, function_call_output or reasoning");
    }
    return ok_status();
  }

  Value list() const { return Value::list(messages_); }
  const std::vector<int>& items() const { return items_; }

 private:
  void add(int item, Value message) {
    messages_.push_back(std::move(message));
    items_.push_back(item);
    calls_.clear();
  }

  // Calls in a row are one message.
  void add_call(int item, Value call) {
    const bool first = calls_.empty();
    std::vector<Value> calls = std::move(calls_);
    calls.push_back(std::move(call));
    MapBuilder map;
    map.set("role", Value::string("assistant"));
    map.set("tool_calls", Value::list(calls));
    if (!first) {
      messages_.pop_back();
      item = items_.back();
      items_.pop_back();
    }
    add(item, std::move(map).build());
    calls_ = std::move(calls);
  }

  std::vector<Value> messages_;
  std::vector<int> items_;
  std::vector<Value> calls_;  // of the last message, if it is one of calls
};

Status read_input(const Value& body, Messages& messages) {
  if (const Value* instructions = member(body, "instructions")) {
    if (!instructions->is_string()) return invalid_argument("instructions", "must be a string");
    messages.add_instructions(*instructions);
  }
  const Value* input = member(body, "input");
  if (input == nullptr) return invalid_argument("input", "is required");
  if (input->is_string()) {
    messages.add_text(*input);
    return ok_status();
  }
  if (!input->is(Kind::kSequence) || input->sequence()->items.empty()) {
    return invalid_argument("input", "must be a string or a list of at least one item");
  }
  int index = 0;
  for (const Value& item : input->sequence()->items) {
    LATENTD_RETURN_IF_ERROR(messages.add_item(index++, item));
  }
  return ok_status();
}

// A tool as chats write it: its function in an object of its own.
Result<Value> chat_tools(const Value* tools) {
  if (tools == nullptr) return Value::none();
  if (!tools->is(Kind::kSequence)) return invalid_argument("tools", "must be a list");
  std::vector<Value> list;
  for (const Value& tool : tools->sequence()->items) {
    if (!is_text(member(tool, "type"), "function")) {
      return invalid_argument("tools[" + std::to_string(list.size()) + "].type",
                              "must be function: no other tool runs here");
    }
    MapBuilder function;
    for (const auto& [name, value] : tool.map().entries()) {
      if (name.bytes() != "type" && !value.is(Kind::kNone)) function.set(name, value);
    }
    MapBuilder map;
    map.set("type", Value::string("function"));
    map.set("function", std::move(function).build());
    list.push_back(std::move(map).build());
  }
  return Value::list(std::move(list));
}

Status read_format(const Value* text, GenerationRequest& generation) {
  if (text == nullptr) return ok_status();
  if (!text->is(Kind::kMap)) return invalid_argument("text", "must be an object");
  const Value* format = member(*text, "format");
  if (format == nullptr) return ok_status();
  const Value* type = member(*format, "type");
  if (is_text(type, "text")) return ok_status();
  if (is_text(type, "json_object")) {
    generation.format = OutputFormat::kJsonObject;
    return ok_status();
  }
  if (!is_text(type, "json_schema")) {
    return invalid_argument("text.format.type", "must be text, json_object or json_schema");
  }
  const Value* schema = member(*format, "schema");
  if (schema == nullptr) return invalid_argument("text.format.schema", "is required");
  generation.format = OutputFormat::kJsonSchema;
  generation.json_schema = json_of_value(*schema);
  return ok_status();
}

void read_logprobs(JsonFields& fields, GenerationRequest& generation) {
  std::vector<std::string> include;
  int top = 0;
  fields.read("include", include);
  fields.read("top_logprobs", top);
  for (const std::string& name : include) {
    if (name == "message.output_text.logprobs") {
      generation.logprobs = top;
    } else if (name != "reasoning.encrypted_content") {
      return fields.fault("include", name + " is not supported");
    }
  }
  if (top < 0 || top > kMaxLogprobs) {
    return fields.fault("top_logprobs", "must be between 0 and " + std::to_string(kMaxLogprobs) +
                                            ", got " + std::to_string(top));
  }
  if (top > 0 && generation.logprobs < 0) {
    fields.fault("top_logprobs", "needs include to have message.output_text.logprobs");
  }
}

void read_truncation(JsonFields& fields) {
  const Json* truncation = fields.find("truncation");
  if (truncation == nullptr || *truncation == "disabled") return;
  fields.fault("truncation", "must be disabled: a prompt that is cut answers another question");
}

// What the answer repeats: the defaults of the API, and over them what was sent.
std::string echo_of(const Value& body) {
  OrderedJson echo = {{"instructions", nullptr},
                      {"max_output_tokens", nullptr},
                      {"metadata", OrderedJson::object()},
                      {"parallel_tool_calls", true},
                      {"previous_response_id", nullptr},
                      {"reasoning", nullptr},
                      {"store", false},
                      {"temperature", nullptr},
                      {"text", {{"format", {{"type", "text"}}}}},
                      {"tool_choice", "auto"},
                      {"tools", OrderedJson::array()},
                      {"top_logprobs", 0},
                      {"top_p", nullptr},
                      {"truncation", "disabled"},
                      {"user", nullptr}};
  for (auto& [name, value] : echo.items()) {
    if (const Value* sent = member(body, name)) {
      value = OrderedJson::parse(json_of_value(*sent), nullptr, false);
    }
  }
  return echo.dump();
}

// "messages[2].role" as "input[1].role".
std::string input_spelling(const std::string& field, const std::vector<int>& items) {
  constexpr std::string_view kMessages = "messages";
  if (field == "max_tokens") return "max_output_tokens";
  if (field == "response_format") return "text.format";
  if (field == "logprobs") return "top_logprobs";
  if (!field.starts_with(kMessages)) return field;
  const std::size_t end = field.find(']');
  if (end == std::string::npos) return "input";
  const auto index = static_cast<std::size_t>(std::stoi(field.substr(kMessages.size() + 1)));
  if (index >= items.size() || items[index] < 0) return "instructions";
  return "input[" + std::to_string(items[index]) + field.substr(end);
}

Status respell(const Status& status, const std::vector<int>& items) {
  if (status.ok()) return status;
  return Status(status.code(), status.message()).with_field(input_spelling(status.field(), items));
}

Status read_reasoning(const Value* reasoning, ChatPrompt& prompt) {
  if (reasoning == nullptr) return ok_status();
  if (!reasoning->is(Kind::kMap)) return invalid_argument("reasoning", "must be an object");
  const Value* effort = member(*reasoning, "effort");
  if (effort == nullptr) return ok_status();
  if (!effort->is_string()) return invalid_argument("reasoning.effort", "must be a string");
  prompt.more.emplace_back("reasoning_effort", *effort);
  return ok_status();
}

Status read_chat(const Value& body, bool parallel, ResponsesRequest& request) {
  Messages messages;
  LATENTD_RETURN_IF_ERROR(read_input(body, messages));
  request.items = messages.items();
  ChatPrompt prompt;
  LATENTD_RETURN_IF_ERROR(respell(read_messages(messages.list(), prompt), request.items));
  LATENTD_ASSIGN_OR_RETURN(const Value tools, chat_tools(member(body, "tools")));
  LATENTD_RETURN_IF_ERROR(read_tools(tools, prompt));
  LATENTD_RETURN_IF_ERROR(read_reasoning(member(body, "reasoning"), prompt));
  const Value* kwargs = member(body, "chat_template_kwargs");
  LATENTD_RETURN_IF_ERROR(read_template_kwargs(kwargs ? *kwargs : Value::none(), prompt));
  const Value* choice = member(body, "tool_choice");
  GenerationRequest& generation = request.chat.generation;
  LATENTD_ASSIGN_OR_RETURN(generation.tool_use,
                           read_tool_use(choice ? *choice : Value::none(), prompt.tools, parallel));
  if (generation.tool_use.choice == ToolUse::Choice::kNone) prompt.tools = Value::none();
  generation.prompts.emplace_back(std::move(prompt));
  return ok_status();
}

}  // namespace

Result<ResponsesRequest> parse_responses(std::string_view body) {
  LATENTD_ASSIGN_OR_RETURN(const Json json, parse_body(body));
  ResponsesRequest request;
  GenerationRequest& generation = request.chat.generation;
  JsonFields fields(json);
  check_refused(fields, kRefused);
  check_refused(fields, kRefusedEverywhere);
  read_generation_fields(fields, generation);
  read_output_fields(fields, request.chat.output);
  fields.read("max_output_tokens", generation.max_tokens);
  read_logprobs(fields, generation);
  read_truncation(fields);
  bool parallel = true;
  fields.read("parallel_tool_calls", parallel);
  LATENTD_RETURN_IF_ERROR(fields.status());
  const Value value = value_of_json(body);
  LATENTD_RETURN_IF_ERROR(read_format(member(value, "text"), generation));
  LATENTD_RETURN_IF_ERROR(read_chat(value, parallel, request));
  request.echo = echo_of(value);
  return request;
}

Result<PreparedGeneration> prepare_responses(const ResponsesRequest& request,
                                             const ServingModel& model) {
  auto prepared = prepare_chat(request.chat, model);
  if (prepared.ok()) return prepared;
  return respell(prepared.status(), request.items);
}

}  // namespace latentd
