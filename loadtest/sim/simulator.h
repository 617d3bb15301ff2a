// Simulator: the real scheduler and block manager, driven by a clock that jumps.
//
// Everything that a server decides is decided by the code that decides it in the server; only the
// model is replaced, by a cost (cost_model.h) and made-up tokens. Requests arrive at their times, a
// step takes what the cost model says, its tokens appear when it ends. What the doors cost beside
// the engine (HTTP, tokenisation) is a constant `door_s` on the way in.
//
// Contract: single-threaded and deterministic: equal inputs give equal outcomes. Prompts are made
// when they are needed and forgotten afterwards, so that a million requests fit.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "loadtest/sim/cost_model.h"
#include "scheduler/scheduler.h"

namespace latentd::loadtest {

struct SimRequest {
  double at_seconds = 0.0;
  int prompt_tokens = 0;
  int output_tokens = 1;
  int priority = 0;
};

struct SimOptions {
  SchedulerOptions scheduler;
  int num_pages = 0;
  int page_tokens = 64;
  CostModel cost;
  double door_s = 0.0;
};

struct SimOutcome {
  double first_s = -1.0;  // from arrival to the first token; -1: refused or cut
  double end_s = -1.0;
  double queue_s = 0.0;
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
// Told the gap before each token but the first.
using GapListener = std::function<void(double seconds)>;

// REQUIRES: requests sorted by time. kInvalidArgument for options that the scheduler refuses.
Result<SimResult> simulate(const SimOptions& options, const std::vector<SimRequest>& requests,
                           const PromptMaker& make_prompt, const GapListener& on_gap);

}  // namespace latentd::loadtest
