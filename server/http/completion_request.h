// CompletionRequest: the body of POST /v1/completions.
//
// Fields as in generation_fields.h, and prompt, echo, logprobs and best_of. Unknown fields are
// tolerated; suffix is refused.
//
// Contract: plain values; parse_completion is pure. It checks types; validate checks the rest.
#pragma once

#include <string_view>

#include "base/result.h"
#include "server/http/generation_fields.h"

namespace latentd {

struct CompletionRequest {
  GenerationRequest generation;  // its n is how many are made: best_of
  OutputFields output;
  bool echo = false;
  bool logprobs = false;  // they are shown
  int n = 1;              // how many are shown of each prompt: the most likely ones
};

// Errors: kInvalidArgument, naming the field unless the JSON itself is broken.
Result<CompletionRequest> parse_completion(std::string_view body);

}  // namespace latentd
