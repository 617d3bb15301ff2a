// RequestLimits: how much one request may ask for, as far as the operator decides it.
//
// What is not here is fixed (docs/operations.md says what and why).
//
// Contract: plain values, the same behind both doors.
#pragma once

#include <cstddef>

#include "base/clock.h"

namespace latentd {

inline constexpr int kMaxChoices = 128;  // n x prompts: request ids leave room for so many
inline constexpr int kMaxLogprobs = 20;  // the sampler reports no more

struct RequestLimits {
  std::size_t max_body_bytes = std::size_t{8} << 20;  // of an HTTP body, of a gRPC message
  Duration body_timeout = std::chrono::seconds(30);   // for an HTTP body to arrive
  int max_choices = kMaxChoices;                      // n x prompts, at most kMaxChoices
  int max_logprobs = kMaxLogprobs;                    // alternatives a token, at most kMaxLogprobs
  std::size_t max_schema_bytes = std::size_t{64} << 10;  // of a JSON schema
};

}  // namespace latentd
