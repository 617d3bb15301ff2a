#include "server/chat_messages.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "engine/model/json.h"
#include "server/json_value.h"

namespace latentd {
namespace {

using jinja::Kind;
using jinja::MapBuilder;
using jinja::Value;

constexpr std::array<std::string_view, 5> kRoles = {"system", "developer", "user", "assistant",
                                                    "tool"};
constexpr const char* kRolesText = "must be system, developer, user, assistant or tool";
constexpr std::array<std::string_view, 9> kMediaParts = {
    "image_url", "image",       "input_image", "audio_url", "input_audio",
    "video_url", "input_video", "file",        "input_file"};

// Names of the template's context that have fields of their own.
constexpr std::array<std::string_view, 5> kReservedNames = {
    "messages", "tools", "documents", "add_generation_prompt", "continue_final_message"};

std::string element(const std::string& path, std::size_t index) {
  return path + "[" + std::to_string(index) + "]";
}

// Null when absent or none.
const Value* member(const Value& map, std::string_view name) {
  const Value* value = map.map().find(name);
  return value == nullptr || value->is(Kind::kNone) ? nullptr : value;
}

bool is_list(const Value& value) { return value.is(Kind::kSequence); }

// That those of `names` that are there are strings: templates write them as they come.
Status check_strings(const Value& map, std::initializer_list<std::string_view> names,
                     const std::string& path) {
  for (const std::string_view name : names) {
    const Value* value = member(map, name);
    if (value != nullptr && !value->is_string()) {
      return invalid_argument(path + "." + std::string(name), "must be a string");
    }
  }
  return ok_status();
}

Result<std::string> part_text(const Value& part, const std::string& path) {
  if (!part.is(Kind::kMap)) return invalid_argument(path, "must be an object with a type");
  const Value* type = member(part, "type");
  if (type == nullptr || !type->is_string()) {
    return invalid_argument(path + ".type", "is required: text");
  }
  const std::string_view name = type->bytes();
  if (std::ranges::find(kMediaParts, name) != kMediaParts.end()) {
    return invalid_argument(path + ".type", std::string(name) +
                                                " is not supported: the model reads text alone, "
                                                "and nothing is fetched");
  }
  if (name != "text" && name != "refusal") return invalid_argument(path + ".type", "must be text");
  const Value* text = member(part, name);
  if (text == nullptr || !text->is_string()) {
    return invalid_argument(path + "." + std::string(name), "must be a string");
  }
  return std::string(text->bytes());
}

Result<Value> read_content(const Value& content, const std::string& path) {
  if (content.is_string()) return content;
  if (!is_list(content)) {
    return invalid_argument(path, "must be a string or a list of text parts");
  }
  std::string joined;
  const auto& parts = content.sequence()->items;
  if (parts.empty()) return invalid_argument(path, "must have at least one part");
  for (std::size_t i = 0; i < parts.size(); ++i) {
    LATENTD_ASSIGN_OR_RETURN(const std::string text, part_text(parts[i], element(path, i)));
    if (i > 0) joined += '\n';
    joined += text;
  }
  return Value::valid_string(std::move(joined));
}

// A copy of a map with one value replaced.
Value with(const Value& map, std::string_view name, const Value& value) {
  MapBuilder copy;
  for (const auto& [key, old] : map.map().entries()) copy.set(key, old);
  copy.set(name, value);
  return std::move(copy).build();
}

// A call with its arguments as an object.
Result<Value> read_tool_call(const Value& call, const std::string& path) {
  const Value* function = call.is(Kind::kMap) ? member(call, "function") : nullptr;
  if (function == nullptr || !function->is(Kind::kMap)) {
    return invalid_argument(path + ".function", "must be an object");
  }
  const Value* name = member(*function, "name");
  if (name == nullptr || !name->is_string()) {
    return invalid_argument(path + ".function.name", "must be a string");
  }
  LATENTD_RETURN_IF_ERROR(check_strings(call, {"id", "type"}, path));
  const Value* arguments = member(*function, "arguments");
  Value object;
  if (arguments == nullptr || (arguments->is_string() && arguments->bytes().empty())) {
    object = MapBuilder().build();
  } else if (arguments->is(Kind::kMap)) {
    object = *arguments;
  } else if (arguments->is_string() && parse_json(arguments->bytes()).ok()) {
    object = value_of_json(arguments->bytes());
  }
  if (!object.is(Kind::kMap)) {
    return invalid_argument(path + ".function.arguments", "must be the JSON of an object");
  }
  return with(call, "function", with(*function, "arguments", object));
}

Result<Value> read_tool_calls(const Value& calls, const std::string& path) {
  if (!is_list(calls)) return invalid_argument(path, "must be a list");
  std::vector<Value> out;
  for (std::size_t i = 0; i < calls.sequence()->items.size(); ++i) {
    LATENTD_ASSIGN_OR_RETURN(Value call,
                             read_tool_call(calls.sequence()->items[i], element(path, i)));
    out.push_back(std::move(call));
  }
  return Value::list(std::move(out));
}

Result<std::string_view> read_role(const Value& message, const std::string& path) {
  const Value* role = member(message, "role");
  if (role == nullptr) return invalid_argument(path + ".role", "is required");
  if (!role->is_string()) return invalid_argument(path + ".role", kRolesText);
  const auto* known = std::ranges::find(kRoles, role->bytes());
  if (known == kRoles.end()) return invalid_argument(path + ".role", kRolesText);
  return *known == "developer" ? "system" : *known;
}

// `message` as templates expect it, but for its tool calls.
Result<Value> read_message(const Value& message, const std::string& path) {
  if (!message.is(Kind::kMap)) return invalid_argument(path, "must be an object");
  LATENTD_ASSIGN_OR_RETURN(const std::string_view role, read_role(message, path));
  LATENTD_RETURN_IF_ERROR(
      check_strings(message, {"name", "tool_call_id", "refusal", "reasoning_content"}, path));
  const Value* content = member(message, "content");
  const bool may_be_empty = role == "assistant" && (member(message, "tool_calls") != nullptr ||
                                                    member(message, "refusal") != nullptr);
  if (content == nullptr && !may_be_empty)
    return invalid_argument(path + ".content", "is required");
  MapBuilder out;
  out.set("role", Value::string(role));
  out.set("content", Value::none());
  if (content != nullptr) {
    LATENTD_ASSIGN_OR_RETURN(Value text, read_content(*content, path + ".content"));
    out.set("content", std::move(text));
  }
  for (const auto& [key, value] : message.map().entries()) {
    const std::string_view name = key.bytes();
    if (name != "role" && name != "content" && !value.is(Kind::kNone)) out.set(key, value);
  }
  return std::move(out).build();
}

}  // namespace

Status read_messages(const Value& messages, ChatPrompt& chat) {
  if (messages.is_undefined() || messages.is(Kind::kNone)) {
    return invalid_argument("messages", "is required");
  }
  if (!is_list(messages) || messages.sequence()->items.empty()) {
    return invalid_argument("messages", "must be a list of at least one message");
  }
  std::vector<Value> as_sent;
  std::vector<Value> as_objects;
  bool has_calls = false;
  for (std::size_t i = 0; i < messages.sequence()->items.size(); ++i) {
    const std::string path = element("messages", i);
    LATENTD_ASSIGN_OR_RETURN(Value message, read_message(messages.sequence()->items[i], path));
    as_sent.push_back(message);
    if (const Value* calls = member(message, "tool_calls")) {
      LATENTD_ASSIGN_OR_RETURN(const Value read, read_tool_calls(*calls, path + ".tool_calls"));
      message = with(message, "tool_calls", read);
      has_calls = true;
    }
    as_objects.push_back(std::move(message));
  }
  chat.messages = Value::list(std::move(as_objects));
  if (has_calls) chat.messages_with_text_arguments = Value::list(std::move(as_sent));
  return ok_status();
}

Status read_tools(const Value& tools, ChatPrompt& chat) {
  if (tools.is_undefined() || tools.is(Kind::kNone)) return ok_status();
  if (!is_list(tools)) return invalid_argument("tools", "must be a list");
  for (std::size_t i = 0; i < tools.sequence()->items.size(); ++i) {
    const Value& tool = tools.sequence()->items[i];
    const std::string path = element("tools", i);
    if (!tool.is(Kind::kMap)) return invalid_argument(path, "must be an object");
    const Value* type = member(tool, "type");
    if (type == nullptr || !type->is_string() || type->bytes() != "function") {
      return invalid_argument(path + ".type", "must be function");
    }
    const Value* function = member(tool, "function");
    const Value* name =
        function != nullptr && function->is(Kind::kMap) ? member(*function, "name") : nullptr;
    if (name == nullptr || !name->is_string() || name->bytes().empty()) {
      return invalid_argument(path + ".function.name", "must be a name");
    }
    LATENTD_RETURN_IF_ERROR(check_strings(*function, {"description"}, path + ".function"));
    const Value* parameters = member(*function, "parameters");
    if (parameters != nullptr && !parameters->is(Kind::kMap)) {
      return invalid_argument(path + ".function.parameters", "must be an object");
    }
  }
  if (!tools.sequence()->items.empty()) chat.tools = tools;
  return ok_status();
}

Status read_documents(const Value& documents, ChatPrompt& chat) {
  if (documents.is_undefined() || documents.is(Kind::kNone)) return ok_status();
  if (!is_list(documents)) return invalid_argument("documents", "must be a list of objects");
  for (std::size_t i = 0; i < documents.sequence()->items.size(); ++i) {
    if (!documents.sequence()->items[i].is(Kind::kMap)) {
      return invalid_argument(element("documents", i), "must be an object");
    }
  }
  chat.documents = documents;
  return ok_status();
}

Status read_template_kwargs(const Value& kwargs, ChatPrompt& prompt) {
  if (kwargs.is_undefined() || kwargs.is(Kind::kNone)) return ok_status();
  if (!kwargs.is(Kind::kMap)) {
    return invalid_argument("chat_template_kwargs", "must be an object");
  }
  for (const auto& [key, value] : kwargs.map().entries()) {
    const std::string name(key.bytes());
    if (std::ranges::find(kReservedNames, name) != kReservedNames.end()) {
      return invalid_argument("chat_template_kwargs",
                              "must not contain " + name + ": it is a field of its own");
    }
    prompt.more.emplace_back(name, value);
  }
  return ok_status();
}

Status check_continuation(const ChatPrompt& chat) {
  if (!chat.add_generation_prompt || !chat.continue_final_message) return ok_status();
  return invalid_argument("continue_final_message", "needs add_generation_prompt to be false");
}

}  // namespace latentd
