// ResponsesResponse: updates of a generation as an object of OpenAI's Responses API, whole or as
// its events:
//
//   response.created, response.in_progress
//   of each item: response.output_item.added
//     a message:  content_part.added, output_text.delta ..., output_text.done, content_part.done
//     thoughts:   reasoning_text.delta ..., reasoning_text.done
//     a call:     function_call_arguments.delta ..., function_call_arguments.done
//   response.output_item.done
//   response.completed, or response.incomplete, or error and response.failed
//
// Every event has its sequence_number. There is no [DONE].
//
// Contract: one request, one thread. `model` outlives it.
#pragma once

#include <memory>
#include <string>

#include "server/http/response.h"
#include "server/http/responses_request.h"

namespace latentd {

// `id` begins with "resp_".
std::unique_ptr<Response> make_responses_response(const ResponsesRequest& request,
                                                  const PreparedGeneration& prepared,
                                                  const ServingModel& model, std::string id);

}  // namespace latentd
