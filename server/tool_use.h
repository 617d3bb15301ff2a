// ToolUse: what a chat may do with tools, and what that makes of its text.
//
//   none    nothing in the text is a call
//   auto    the model decides; calls are read as its family writes them (text/tool_call_format.h)
//   forced  `required` or one named tool: the text is a list of calls of the tools, held to their
//           parameters by a schema
//
// Contract: plain values and pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "server/text/template/value.h"
#include "server/text/tool_call_parser.h"

namespace latentd {

struct ToolUse {
  enum class Choice : std::uint8_t { kNone, kAuto, kForced };
  struct Tool {
    ToolSignature signature;
    std::string parameters;  // the JSON of their schema; empty: there are none
  };

  Choice choice = Choice::kNone;
  std::string name;      // kForced: the one tool that may be called; empty: any
  bool parallel = true;  // more than one call in a text
  std::vector<Tool> tools;

  std::vector<ToolSignature> signatures() const;
};

// Reads an OpenAI tool_choice (undefined or none: auto) and the tools that read_tools has accepted.
// kInvalidArgument, field "tool_choice".
Result<ToolUse> read_tool_use(const jinja::Value& tool_choice, const jinja::Value& tools,
                              bool parallel);

// The schema of a forced text: [{"name": ..., "arguments": {...}}, ...]. kInvalidArgument, field
// "tools", when the parameters of a tool are no schema. REQUIRES: kForced.
Result<std::string> forced_call_schema(const ToolUse& use);

}  // namespace latentd
