// Simulator: the real scheduler and block manager, driven by a clock that jumps.
//
// Everything that a server decides is decided by the code that decides it in the server; only the
// model is replaced, by a cost (cost_model.h) and made-up tokens. Requests arrive as a client sends
// them (at their times, one user after the other, turn by turn), a step takes what the cost model
// says, its tokens appear when it ends. What the doors cost beside the engine (HTTP, tokenisation)
// is a constant of the cost model on the way in.
//
// Contract: single-threaded and deterministic: equal inputs give equal outcomes. The clock begins
// at TimePoint{}. Prompts are made when they are needed and forgotten afterwards, so that a million
// requests fit.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/result.h"
#include "loadtest/sim/cost_model.h"
#include "scheduler/scheduler.h"

namespace latentd::loadtest {

struct SimRequest {
  double at_seconds = 0.0;  // of the first turn of an open loop's session
  int prompt_tokens = 0;
  int output_tokens = 1;
  int priority = 0;
  int cancel_after = -1;        // the client hangs up once it has more tokens; -1: never
  bool first_turn = true;       // false: sent by its predecessor
  std::int32_t next_turn = -1;  // index of what is sent think_s after the end of this one
  double think_s = 0.0;
  std::uint64_t salt = 0;  // tenants with different ones share no prefixes
};

struct SimOptions {
  SchedulerOptions scheduler;
  int num_pages = 0;
  int page_tokens = 64;
  CostModel cost;
  int users = 0;       // > 0: a closed loop, each user taking the next session when one is over
  double end_s = 0.0;  // > 0: nothing is sent from then on
  int max_queue = 1 << 30;  // requests in the house; more are refused, as by the server
};

struct SimEvent {
  enum class Kind : std::uint8_t {
    kSent,       // `time` is when it was meant to be sent, too
    kToken,      // the client has a new token
    kFinished,   // with all its tokens
    kCancelled,  // by the client
    kRefused,    // the house was full
    kTooLong,    // it could never run
  };
  Kind kind = Kind::kSent;
  std::size_t index = 0;  // of the request
  TimePoint time{};
  int cached_tokens = 0;  // kFinished
};

struct SimOutcome {
  double first_s = -1.0;  // from being sent to the first token; -1: none came
  double end_s = -1.0;    // to the end; -1: refused, or not sent
  double queue_s = 0.0;   // to a slot
  int tokens = 0;
  int cached_tokens = 0;
};

struct SimResult {
  std::vector<SimOutcome> outcomes;  // by request
  SchedulerStats stats;
  double simulated_s = 0.0;  // until the last request ended
  double busy_s = 0.0;       // of the engine
  std::uint64_t refused = 0;
};

// Appends the prompt of request `index`.
using PromptMaker = std::function<void(std::size_t index, std::vector<TokenId>& out)>;
// Told everything that a client sees, in order.
using SimListener = std::function<void(const SimEvent& event)>;

// REQUIRES: first turns sorted by time; a next turn comes after its predecessor. kInvalidArgument
// for options that the scheduler refuses. `listener` may be empty.
Result<SimResult> simulate(const SimOptions& options, const std::vector<SimRequest>& requests,
                           const PromptMaker& make_prompt, const SimListener& listener);

}  // namespace latentd::loadtest
