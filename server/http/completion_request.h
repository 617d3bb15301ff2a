// CompletionRequest: the body of POST /v1/completions.
//
// Fields as in OpenAI's API, and those that vLLM adds: top_k, min_p, repetition_penalty,
// stop_token_ids, min_tokens, ignore_eos, include_stop_str_in_output, skip_special_tokens,
// return_token_ids, priority. Unknown fields are tolerated; best_of and suffix are refused.
//
// Contract: plain values; parse_completion is pure. It checks types; validate checks the rest.
#pragma once

#include <string_view>

#include "base/result.h"
#include "server/generation_request.h"

namespace latentd {

struct CompletionRequest {
  GenerationRequest generation;
  bool stream = false;
  bool include_usage = false;
  bool echo = false;
  bool return_token_ids = false;
};

// Errors: kInvalidArgument, naming the field unless the JSON itself is broken.
Result<CompletionRequest> parse_completion(std::string_view body);

}  // namespace latentd
