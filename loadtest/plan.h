// Plan: every request of a run, made before it starts, so that making them costs no time later and
// equal seeds give equal traffic.
//
// A prompt is a list of segments; a segment is so many tokens drawn from a seed. Equal segments are
// equal tokens: that is how prefixes are shared and how a session repeats its earlier turns, in a
// few bytes a request. Tokens are made when the request is sent.
//
// Contract: plain values; read by all threads, changed by none.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "loadtest/scenario.h"
#include "loadtest/trace.h"

namespace latentd::loadtest {

struct PromptSegment {
  std::uint64_t seed = 0;
  std::int32_t tokens = 0;
};

struct PlannedRequest {
  // Seconds from the start. kClosed: 0. In a session only the first turn has it.
  double at_seconds = 0.0;
  std::int32_t tenant = 0;
  std::int32_t next_turn = -1;  // index of the request to send after this one's answer
  bool first_turn = true;       // false: sent by its predecessor
  bool slow_reader = false;
  std::int32_t max_tokens = 1;
  std::int32_t cancel_after = -1;  // hang up after so many tokens; -1: never
  std::vector<PromptSegment> prompt;

  int prompt_tokens() const;
};

// Token ids are drawn from [first, first + count): keep special tokens out.
struct TokenRange {
  std::int32_t first = 16;
  std::int32_t count = 3000;
};

// The ids of a prompt, appended to `out`.
void append_tokens(const PlannedRequest& request, const TokenRange& range,
                   std::vector<std::int32_t>& out);

// The most requests that a plan may have, so that a mistyped rate does not eat the memory.
inline constexpr std::size_t kMaxPlanned = 20'000'000;

// REQUIRES: validate(scenario) is ok. `trace` is used by Process::kTrace alone.
// A closed loop that only time ends gets 100,000 sessions to take from.
Result<std::vector<PlannedRequest>> make_plan(const Scenario& scenario,
                                              const std::vector<TraceEntry>& trace);

}  // namespace latentd::loadtest
