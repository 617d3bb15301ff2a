// Values as text: Python's str and repr, and json.dumps.
//
// Contract: every function charges the budget for what it writes. Objects whose text in Python is
// an address (generators, methods, functions) have none here: kInvalidArgument.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "server/text/template/runtime.h"

namespace latentd::jinja {

// Appends str(value): text as it is, nothing of an undefined value.
Status append_text(Runtime& runtime, const Value& value, std::string& out);
Result<std::string> to_text(Runtime& runtime, const Value& value);
Status append_repr(Runtime& runtime, const Value& value, std::string& out);
// The shortest digits that read back as `value`, laid out as Python's repr does.
std::string double_repr(double value);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent;  // of one level; set: one element a line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
// json.dumps(value, ...). What JSON cannot hold is kInvalidArgument.
Result<std::string> to_json(Runtime& runtime, const Value& value, const JsonStyle& style);

// What Python calls the type of `value`.
std::string_view type_name(const Value& value);

}  // namespace latentd::jinja
