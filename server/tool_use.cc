#include "server/tool_use.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "server/json_value.h"

namespace latentd {
namespace {

using jinja::Kind;
using jinja::Value;
using OrderedJson = nlohmann::ordered_json;

const Value* member(const Value* map, std::string_view name) {
  if (map == nullptr || !map->is(Kind::kMap)) return nullptr;
  const Value* value = map->map().find(name);
  return value == nullptr || value->is(Kind::kNone) ? nullptr : value;
}

bool is_text(const Value* value, std::string_view text) {
  return value != nullptr && value->is_string() && value->bytes() == text;
}

ToolUse::Tool read_tool(const Value& tool) {
  const Value* function = member(&tool, "function");
  ToolUse::Tool out;
  out.signature.name = std::string(member(function, "name")->bytes());
  const Value* parameters = member(function, "parameters");
  if (parameters == nullptr) return out;
  out.parameters = json_of_value(*parameters);
  const Value* properties = member(parameters, "properties");
  if (properties == nullptr || !properties->is(Kind::kMap)) return out;
  for (const auto& [name, schema] : properties->map().entries()) {
    if (is_text(member(&schema, "type"), "string")) {
      out.signature.string_parameters.emplace_back(name.bytes());
    }
  }
  return out;
}

Status bad_choice(const std::string& what) { return invalid_argument("tool_choice", what); }

Status read_choice(const Value& choice, ToolUse& use) {
  use.choice = use.tools.empty() ? ToolUse::Choice::kNone : ToolUse::Choice::kAuto;
  if (choice.is_undefined() || choice.is(Kind::kNone) || is_text(&choice, "auto")) {
    return ok_status();
  }
  if (is_text(&choice, "none")) {
    use.choice = ToolUse::Choice::kNone;
    return ok_status();
  }
  if (is_text(&choice, "required")) {
    if (use.tools.empty()) return bad_choice("required needs tools");
    use.choice = ToolUse::Choice::kForced;
    return ok_status();
  }
  constexpr const char* kForms =
      R"(must be auto, none, required or {"type": "function", "function": {"name": ...}})";
  if (!is_text(member(&choice, "type"), "function")) return bad_choice(kForms);
  const Value* function = member(&choice, "function");  // as chats have it, else as responses do
  const Value* name = member(function == nullptr ? &choice : function, "name");
  if (name == nullptr || !name->is_string()) return bad_choice(kForms);
  use.choice = ToolUse::Choice::kForced;
  use.name = std::string(name->bytes());
  const bool known = std::ranges::any_of(
      use.tools, [&](const ToolUse::Tool& tool) { return tool.signature.name == use.name; });
  return known ? ok_status() : bad_choice("names no tool of tools: " + use.name);
}

// A schema that stood alone now stands at `place`: its references have to say so.
void move_references(OrderedJson& schema, const std::string& place) {
  if (schema.is_array()) {
    for (OrderedJson& item : schema) move_references(item, place);
  }
  if (!schema.is_object()) return;
  for (auto& [key, value] : schema.items()) {
    if (key == "const" || key == "enum" || key == "default" || key == "examples") continue;
    const auto* reference = value.get_ptr<const std::string*>();
    if (key == "$ref" && reference != nullptr && reference->starts_with('#')) {
      value = place + reference->substr(1);
    } else {
      move_references(value, place);
    }
  }
}

}  // namespace

std::vector<ToolSignature> ToolUse::signatures() const {
  std::vector<ToolSignature> out;
  out.reserve(tools.size());
  for (const Tool& tool : tools) out.push_back(tool.signature);
  return out;
}

Result<ToolUse> read_tool_use(const Value& tool_choice, const Value& tools, bool parallel) {
  ToolUse use;
  use.parallel = parallel;
  if (tools.is(Kind::kSequence)) {
    for (const Value& tool : tools.sequence()->items) use.tools.push_back(read_tool(tool));
  }
  LATENTD_RETURN_IF_ERROR(read_choice(tool_choice, use));
  return use;
}

Result<std::string> forced_call_schema(const ToolUse& use) {
  OrderedJson schemas = OrderedJson::object();
  OrderedJson calls = OrderedJson::array();
  for (std::size_t i = 0; i < use.tools.size(); ++i) {
    const ToolUse::Tool& tool = use.tools[i];
    if (!use.name.empty() && use.name != tool.signature.name) continue;
    OrderedJson parameters = {{"type", "object"}, {"properties", OrderedJson::object()}};
    if (!tool.parameters.empty()) {
      parameters = OrderedJson::parse(tool.parameters, nullptr, false);
      if (!parameters.is_object()) {
        return invalid_argument("tools[" + std::to_string(i) + "].function.parameters",
                                "must be a schema of an object");
      }
    }
    if (!parameters.contains("type")) parameters["type"] = "object";
    const std::string place = "#/$defs/" + std::to_string(i);
    move_references(parameters, place);
    schemas[std::to_string(i)] = std::move(parameters);
    OrderedJson call = {{"type", "object"}};
    call["properties"]["name"]["const"] = tool.signature.name;
    call["properties"]["arguments"]["$ref"] = place;
    call["required"] = {"name", "arguments"};
    call["additionalProperties"] = false;
    calls.push_back(std::move(call));
  }
  OrderedJson schema = {{"type", "array"}, {"minItems", 1}};
  if (!use.parallel || !use.name.empty()) schema["maxItems"] = 1;
  schema["items"] =
      calls.size() == 1 ? std::move(calls[0]) : OrderedJson{{"anyOf", std::move(calls)}};
  schema["$defs"] = std::move(schemas);
  return schema.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace latentd
