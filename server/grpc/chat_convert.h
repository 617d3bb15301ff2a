// A conversation of latentd.v1 as what the one validator takes.
//
// Contract: pure functions. Errors: kInvalidArgument, naming the field as HTTP does
// ("messages[1].role", "tools[0].function.name"), which is where docs/api.md describes it.
#pragma once

#include <latentd/v1/generation.pb.h>

#include "base/result.h"
#include "server/chat_format.h"
#include "server/tool_use.h"

namespace latentd {

struct ChatRead {
  ChatPrompt prompt;
  ToolUse tool_use;
};

Result<ChatRead> read_chat(const v1::Chat& message);

}  // namespace latentd
