#include "server/grpc/chat_convert.h"

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "engine/model/json.h"
#include "server/chat_messages.h"
#include "server/json_value.h"

namespace latentd {
namespace {

using jinja::Kind;
using jinja::MapBuilder;
using jinja::Value;

void set_text(MapBuilder& map, std::string_view name, const std::string& text) {
  if (!text.empty()) map.set(name, Value::string(text));
}

Value to_value(const v1::ToolCall& call) {
  MapBuilder function;
  function.set("name", Value::string(call.name()));
  function.set("arguments", Value::string(call.arguments()));
  MapBuilder map;
  set_text(map, "id", call.id());
  map.set("type", Value::string("function"));
  map.set("function", std::move(function).build());
  return std::move(map).build();
}

Value to_value(const v1::ChatMessage& message) {
  MapBuilder map;
  map.set("role", Value::string(message.role()));
  if (message.has_content()) map.set("content", Value::string(message.content()));
  set_text(map, "name", message.name());
  set_text(map, "tool_call_id", message.tool_call_id());
  set_text(map, "reasoning_content", message.reasoning());
  if (message.tool_calls_size() > 0) {
    std::vector<Value> calls;
    for (const v1::ToolCall& call : message.tool_calls()) calls.push_back(to_value(call));
    map.set("tool_calls", Value::list(std::move(calls)));
  }
  return std::move(map).build();
}

Result<Value> to_value(const v1::Tool& tool, const std::string& path) {
  MapBuilder function;
  function.set("name", Value::string(tool.name()));
  set_text(function, "description", tool.description());
  if (!tool.parameters_json().empty()) {
    if (!parse_json(tool.parameters_json()).ok()) {
      return invalid_argument(path + ".function.parameters", "must be JSON");
    }
    function.set("parameters", value_of_json(tool.parameters_json()));
  }
  MapBuilder map;
  map.set("type", Value::string("function"));
  map.set("function", std::move(function).build());
  return std::move(map).build();
}

Value to_value(const v1::ToolChoice& choice) {
  switch (choice.mode()) {
    case v1::ToolChoice::MODE_NONE:
      return Value::string("none");
    case v1::ToolChoice::MODE_REQUIRED:
      return Value::string("required");
    case v1::ToolChoice::MODE_NAMED: {
      MapBuilder map;
      map.set("type", Value::string("function"));
      map.set("name", Value::string(choice.name()));
      return std::move(map).build();
    }
    default:
      return Value::none();
  }
}

Result<Value> read_json(const std::string& text, const char* field, Kind kind, const char* must) {
  if (text.empty()) return Value::none();
  if (!parse_json(text).ok()) return invalid_argument(field, must);
  Value value = value_of_json(text);
  if (!value.is(kind)) return invalid_argument(field, must);
  return value;
}

}  // namespace

Result<ChatRead> read_chat(const v1::Chat& message) {
  ChatRead chat;
  ChatPrompt& prompt = chat.prompt;
  prompt.add_generation_prompt = !message.no_generation_prompt();
  prompt.continue_final_message = message.continue_final_message();
  LATENTD_RETURN_IF_ERROR(check_continuation(prompt));
  std::vector<Value> messages;
  for (const v1::ChatMessage& each : message.messages()) messages.push_back(to_value(each));
  LATENTD_RETURN_IF_ERROR(read_messages(Value::list(std::move(messages)), prompt));
  std::vector<Value> tools;
  for (int i = 0; i < message.tools_size(); ++i) {
    LATENTD_ASSIGN_OR_RETURN(Value tool,
                             to_value(message.tools(i), "tools[" + std::to_string(i) + "]"));
    tools.push_back(std::move(tool));
  }
  LATENTD_RETURN_IF_ERROR(read_tools(Value::list(std::move(tools)), prompt));
  LATENTD_ASSIGN_OR_RETURN(const Value kwargs,
                           read_json(message.template_kwargs_json(), "chat_template_kwargs",
                                     Kind::kMap, "must be the JSON of an object"));
  LATENTD_RETURN_IF_ERROR(read_template_kwargs(kwargs, prompt));
  LATENTD_ASSIGN_OR_RETURN(const Value documents,
                           read_json(message.documents_json(), "documents", Kind::kSequence,
                                     "must be the JSON of a list"));
  LATENTD_RETURN_IF_ERROR(read_documents(documents, prompt));
  LATENTD_ASSIGN_OR_RETURN(chat.tool_use,
                           read_tool_use(to_value(message.tool_choice()), prompt.tools,
                                         !message.no_parallel_tool_calls()));
  if (chat.tool_use.choice == ToolUse::Choice::kNone) prompt.tools = Value::none();
  return chat;
}

}  // namespace latentd
