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
//   qwen3_coder
//   <tool_call>\n<function=f>\n<parameter=k>\nv\n</parameter>\n</function>\n</tool_call> minicpm3
//   <|tool_call_start|>\n```python\nf(k="v", n=1)\ng()\n```\n<|tool_call_end|>
//
// Which one a model has is read off its chat template, which has to write calls of earlier turns
// the same way. Sources: the chat templates that are published with these models.
//
// Contract: constants; pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace latentd {

// What the reading of calls has to know of a tool.
struct ToolSignature {
  std::string name;
  std::vector<std::string> string_parameters;  // those whose type is string
};

bool is_string_parameter(const std::vector<ToolSignature>& tools, std::string_view tool,
                         std::string_view parameter);

struct WholeCall {
  std::string name;
  std::string arguments;  // the JSON of an object
};

struct ToolCallFormat {
  // The calls between call_begin and call_end; none: it is no call.
  using Reader = std::optional<std::vector<WholeCall>> (*)(std::string_view block,
                                                           const std::vector<ToolSignature>& tools);

  enum class Body : std::uint8_t {
    kJson,   // an object with the name and the arguments
    kNamed,  // a header with the name, then the arguments as an object
    kTags,   // the name, then a pair of tags for each argument
    kWhole,  // what `read` reads: nothing of it is given on before its end
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

  Reader read = nullptr;  // kWhole

  bool is_bare() const { return call_begin.empty(); }
};

// Null when the template writes calls in no way that we know.
const ToolCallFormat* tool_call_format_of(std::string_view chat_template);

// What the constraint of a forced call makes: a list of {"name", "arguments"}.
const ToolCallFormat& forced_call_format();

// Its marks that may be single tokens.
std::vector<std::string_view> marks_of(const ToolCallFormat& format);

}  // namespace latentd
