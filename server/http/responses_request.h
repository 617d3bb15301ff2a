// ResponsesRequest: the body of POST /v1/responses, OpenAI's Responses API without its state.
//
// Taken: input (a text, or items: messages, function_call, function_call_output, reasoning),
// instructions, max_output_tokens, tools of type function, tool_choice, parallel_tool_calls,
// text.format, include (message.output_text.logprobs), top_logprobs, metadata, stream, and all that
// generation_fields.h reads. Nothing is kept: store, previous_response_id, conversation, background
// and stored prompts are refused.
//
// An input becomes the messages of a chat, and everything behind that is the chat's.
//
// Contract: plain values; functions are pure. On the text pool.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/http/chat_request.h"

namespace latentd {

struct ResponsesRequest {
  ChatRequest chat;
  std::string echo;        // the JSON of what the answer repeats of the request
  std::vector<int> items;  // of each message, the index of its item of input; -1: instructions
};

// Errors: kInvalidArgument, naming the field unless the JSON itself is broken.
Result<ResponsesRequest> parse_responses(std::string_view body);

// As prepare, with the fields of its errors as this route's clients know them.
Result<PreparedGeneration> prepare_responses(const ResponsesRequest& request,
                                             const ServingModel& model);

}  // namespace latentd
