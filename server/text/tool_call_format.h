// ToolCallFormat: how a family of models writes calls of tools into its text, as data.
//
//   hermes       <tool_call>{"name": "f", "arguments": {...}}</tool_call>            (Qwen2.5,
//   Qwen3) deepseek_v3
//   <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{...}\n```
//                <｜tool▁call▁end｜> ... <｜tool▁calls▁end｜>                           (V2.5, V3,
//                R1)
//   deepseek_v3_1  the same marks, <｜tool▁call▁begin｜>f<｜tool▁sep｜>{...}<｜tool▁call▁end｜>
//   kimi_k2      <|tool_calls_section_begin|><|tool_call_begin|>functions.f:0
//                <|tool_call_argument_begin|>{...}<|tool_call_end|> ... <|tool_calls_section_end|>
//   glm4         <tool_call>f\n<arg_key>k</arg_key>\n<arg_value>v</arg_value>\n</tool_call>
//   llama3_json  {"name": "f", "parameters": {...}}, perhaps after <|python_tag|>
//
// Which one a model has is read off its chat template, which has to write calls of earlier turns
// the same way. Sources: the chat templates that are published with these models.
//
// Contract: constants; pure functions.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace latentd {

struct ToolCallFormat {
  enum class Body : std::uint8_t {
    kJson,   // an object with the name and the arguments
    kNamed,  // a header with the name, then the arguments as an object
    kTags,   // the name, then a pair of tags for each argument
  };

  std::string_view name = {};
  // A template that contains both writes calls so.
  std::string_view sign = {};
  std::string_view second_sign = {};

  std::string_view section_begin = {};  // around all calls; empty: nothing
  std::string_view section_end = {};
  std::string_view call_begin =
      {};  // around each; empty: the text as a whole is calls, or has none
  std::string_view call_end = {};
  Body body = Body::kJson;
  std::string_view name_after = {};  // kNamed: what stands before the name
  std::string_view name_until = {};  // kNamed: what ends the header
  // kNamed: the header is an identifier `prefix NAME:number`, which the model wants back.
  std::string_view id_prefix = {};

  bool is_bare() const { return call_begin.empty(); }
};

// Null when the template writes calls in no way that we know.
const ToolCallFormat* tool_call_format_of(std::string_view chat_template);

// What the constraint of a forced call makes: a list of {"name", "arguments"}.
const ToolCallFormat& forced_call_format();

// Its marks that may be single tokens.
std::vector<std::string_view> marks_of(const ToolCallFormat& format);

}  // namespace latentd
