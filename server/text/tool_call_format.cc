#include "server/text/tool_call_format.h"

#include <algorithm>

#include "server/text/whole_calls.h"

namespace latentd {
namespace {

using Body = ToolCallFormat::Body;

// The first whose signs a template contains is its format.
constexpr ToolCallFormat kFormats[] = {
    {.name = "deepseek_v3",
     .sign = "<｜tool▁sep｜>",
     .second_sign = "```json",
     .section_begin = "<｜tool▁calls▁begin｜>",
     .section_end = "<｜tool▁calls▁end｜>",
     .call_begin = "<｜tool▁call▁begin｜>",
     .call_end = "<｜tool▁call▁end｜>",
     .body = Body::kNamed,
     .name_after = "<｜tool▁sep｜>",
     .name_until = "\n"},
    {.name = "deepseek_v3_1",
     .sign = "<｜tool▁sep｜>",
     .section_begin = "<｜tool▁calls▁begin｜>",
     .section_end = "<｜tool▁calls▁end｜>",
     .call_begin = "<｜tool▁call▁begin｜>",
     .call_end = "<｜tool▁call▁end｜>",
     .body = Body::kNamed,
     .name_until = "<｜tool▁sep｜>"},
    {.name = "kimi_k2",
     .sign = "<|tool_calls_section_begin|>",
     .section_begin = "<|tool_calls_section_begin|>",
     .section_end = "<|tool_calls_section_end|>",
     .call_begin = "<|tool_call_begin|>",
     .call_end = "<|tool_call_end|>",
     .body = Body::kNamed,
     .name_until = "<|tool_call_argument_begin|>",
     .id_prefix = "functions."},
    {.name = "glm4",
     .sign = "<arg_key>",
     .second_sign = "<tool_call>",
     .call_begin = "<tool_call>",
     .call_end = "</tool_call>",
     .body = Body::kTags},
    {.name = "qwen3_coder",
     .sign = "<function=",
     .second_sign = "<parameter=",
     .call_begin = "<tool_call>",
     .call_end = "</tool_call>",
     .body = Body::kWhole,
     .read = read_function_tags},
    {.name = "minicpm3",
     .sign = "<|tool_call_start|>",
     .second_sign = "```python",
     .call_begin = "<|tool_call_start|>",
     .call_end = "<|tool_call_end|>",
     .body = Body::kWhole,
     .read = read_python_calls},
    {.name = "hermes",
     .sign = "<tool_call>",
     .second_sign = "arguments",
     .call_begin = "<tool_call>",
     .call_end = "</tool_call>",
     .body = Body::kJson},
    {.name = "llama3_json",
     .sign = "\"parameters\": ",
     .second_sign = "dictionary of argument",
     .section_begin = "<|python_tag|>",
     .body = Body::kJson},
};

constexpr ToolCallFormat kForced = {.name = "forced", .sign = "", .body = Body::kJson};

}  // namespace

bool is_string_parameter(const std::vector<ToolSignature>& tools, std::string_view tool,
                         std::string_view parameter) {
  const auto found = std::ranges::find(tools, tool, &ToolSignature::name);
  return found != tools.end() &&
         std::ranges::find(found->string_parameters, parameter) != found->string_parameters.end();
}

const ToolCallFormat* tool_call_format_of(std::string_view chat_template) {
  for (const ToolCallFormat& format : kFormats) {
    if (chat_template.find(format.sign) != std::string_view::npos &&
        chat_template.find(format.second_sign) != std::string_view::npos) {
      return &format;
    }
  }
  return nullptr;
}

const ToolCallFormat& forced_call_format() { return kForced; }

std::vector<std::string_view> marks_of(const ToolCallFormat& format) {
  std::vector<std::string_view> marks;
  for (const std::string_view mark : {format.section_begin, format.section_end, format.call_begin,
                                      format.call_end, format.name_after, format.name_until}) {
    if (mark.size() > 1) marks.push_back(mark);
  }
  if (format.body == Body::kTags) {
    marks.insert(marks.end(), {"<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"});
  }
  return marks;
}

}  // namespace latentd
