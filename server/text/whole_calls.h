// The bodies of calls that are read as a whole: ToolCallFormat::Reader.
//
// Contract: pure functions; bounded depth.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "server/text/tool_call_format.h"

namespace latentd {

// Qwen3-Coder: <function=NAME> and, for each argument, <parameter=KEY>, a line feed, its value, a
// line feed, </parameter>; then </function>. Values have no types: see ToolCallParser.
std::optional<std::vector<WholeCall>> read_function_tags(std::string_view block,
                                                         const std::vector<ToolSignature>& tools);

// MiniCPM3: Python, one call NAME(KEY=VALUE, ...) after another, perhaps fenced by ```python.
// Values are literals of Python or JSON; a call as a value is the object of its arguments, a bare
// name its last part as a string (models write classes and enumerations of the schema so).
std::optional<std::vector<WholeCall>> read_python_calls(std::string_view block,
                                                        const std::vector<ToolSignature>& tools);

}  // namespace latentd
