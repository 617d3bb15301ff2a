// Request: one sequence that a client asked for, as the engine sees it: tokens in, tokens out, no
// text.
//
// Contract: immutable once submitted, except that the engine thread advances `constraint`. Built
// and validated by the server (limits of the model, of the sampler's fields); the scheduler checks
// only what it alone can know. n choices of one prompt are n requests.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "scheduler/token_constraint.h"

namespace latentd {

// How the next token is drawn. Order of application: logit_bias, repetition, presence and frequency
// penalties, the constraint's mask, temperature, top_k, top_p, min_p, then one draw keyed by (seed,
// position).
struct SamplingParams {
  float temperature = 1.0F;        // 0 = greedy: the highest logit, the lowest id among equals
  int top_k = 0;                   // 0 = off
  float top_p = 1.0F;              // (0, 1]; 1 = off
  float min_p = 0.0F;              // [0, 1]; 0 = off; relative to the most likely token
  float presence_penalty = 0.0F;   // subtracted once from tokens generated before
  float frequency_penalty = 0.0F;  // subtracted for each time a token was generated before
  float repetition_penalty =
      1.0F;  // > 0; divides (multiplies, if negative) logits of prompt and output tokens
  std::uint64_t seed = 0;
  std::vector<std::pair<TokenId, float>> logit_bias;
  std::vector<TokenId> allowed_tokens;           // empty = all
  std::vector<TokenId> banned_until_min_tokens;  // never drawn before min_new_tokens are generated
  int num_top_logprobs = -1;  // -1: none; 0: of the sampled token; k: of the k most likely as well

  bool wants_logprobs() const { return num_top_logprobs >= 0; }
  // True when a draw needs the counts of earlier tokens.
  bool has_penalties() const {
    return presence_penalty != 0.0F || frequency_penalty != 0.0F || repetition_penalty != 1.0F;
  }
};

struct Request {
  RequestId id;
  std::vector<TokenId> prompt;  // at least one token
  SamplingParams sampling;

  int max_new_tokens = 16;  // 0: compute the prompt (for its logprobs) and generate nothing
  int min_new_tokens = 0;   // stop tokens do not end the sequence before
  std::vector<TokenId>
      stop_tokens;  // the client's stop_token_ids and, unless ignore_eos, the end-of-text ids
  bool wants_prompt_logprobs =
      false;  // of prompt tokens 1 .. n - 1; such a request takes no prefix hit

  int priority = 0;  // lower runs first, as in vLLM; equal: by arrival
  TimePoint deadline = kNever;
  std::uint64_t salt = 0;  // prefix-cache pages are shared only between equal salts
  std::unique_ptr<TokenConstraint> constraint;  // may be null
};

}  // namespace latentd
