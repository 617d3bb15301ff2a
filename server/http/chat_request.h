// ChatRequest: the body of POST /v1/chat/completions.
//
// Fields as in generation_fields.h, and messages, max_completion_tokens, logprobs, top_logprobs,
// tools, tool_choice, parallel_tool_calls, response_format and, from vLLM, add_generation_prompt,
// continue_final_message, chat_template_kwargs and documents. Unknown fields are tolerated.
//
// Contract: plain values; functions are pure. parse_chat checks types and what belongs to chats
// alone; validate checks the rest. Rendering takes time: never on a door's thread.
#pragma once

#include <string_view>

#include "server/chat_format.h"
#include "server/http/generation_fields.h"

namespace latentd {

struct ChatRequest {
  GenerationRequest generation;  // its one prompt is a ChatPrompt
  OutputFields output;
  bool spelled_max_completion_tokens = false;
};

// Errors: kInvalidArgument, naming the field unless the JSON itself is broken.
Result<ChatRequest> parse_chat(std::string_view body);

struct ChatInput {
  ChatPrompt prompt;  // without its tools when none may be called
  ToolUse tool_use;
};

// Reads messages, tools and all that decides how they are rendered: what chats and /tokenize share.
// `text` is the JSON of the object behind `fields`.
Result<ChatInput> read_chat_input(JsonFields& fields, std::string_view text);

// As prepare, with the fields of its errors as this route's clients know them.
Result<PreparedGeneration> prepare_chat(const ChatRequest& request, const ServingModel& model);

}  // namespace latentd
