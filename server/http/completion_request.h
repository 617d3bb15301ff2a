// CompletionRequest: the body of POST /v1/completions.
//
// Fields as in generation_fields.h, and prompt, echo and logprobs. Unknown fields are tolerated;
// best_of and suffix are refused.
//
// Contract: plain values; parse_completion is pure. It checks types; validate checks the rest.
#pragma once

#include <string_view>

#include "base/result.h"
#include "server/http/generation_fields.h"

namespace latentd {

struct CompletionRequest {
  GenerationRequest generation;
  OutputFields output;
  bool echo = false;
};

// Errors: kInvalidArgument, naming the field unless the JSON itself is broken.
Result<CompletionRequest> parse_completion(std::string_view body);

}  // namespace latentd
