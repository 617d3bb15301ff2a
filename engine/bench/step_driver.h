// StepDriver: runs steps of a chosen shape through the real ModelRunner and times them, without
// scheduler, engine thread or server.
//
// Every slot has its own pages, but for those of tokens that all have in common. Tokens are random
// and every row draws with the sampler's defaults, so a step costs what it costs in service.
//
// Contract: single-threaded; `weights` are device views. REQUIRES that the backend and what the
// views point to outlive it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "base/result.h"
#include "engine/backend/backend.h"
#include "engine/model/model_config.h"
#include "engine/model/weights.h"
#include "engine/model_runner.h"
#include "kvcache/cache_layout.h"
#include "scheduler/batch_plan.h"
#include "scheduler/request.h"

namespace latentd {

struct StepDriverOptions {
  std::vector<int> lengths = {1};  // tokens that each slot can hold
  int chunk = 512;                 // most tokens of a step, if there are not more rows
  ExpansionPolicy expansion;       // RunnerOptions
  int depth = 1;                   // decode steps in flight, 1 or 2
  std::vector<int> graph_buckets;  // RunnerOptions
  int shared = 0;                  // tokens that all slots have in common, whole pages
  bool shares_prefixes = false;    // whether decode steps tell the device of them
};

class StepDriver {
 public:
  static Result<std::unique_ptr<StepDriver>> create(Backend& backend, const ModelConfig& config,
                                                    const ModelWeights& weights,
                                                    const CacheLayout& layout,
                                                    const StepDriverOptions& options);

  // Computes tokens [start, start + count) of `rows` slots from first_slot on, all in the same
  // steps, which hold options.chunk tokens together; seconds.
  Result<double> prefill(int first_slot, int rows, int start, int count);

  // `steps` steps of one token for each of the slots 0 .. rows - 1, from `position` on; the seconds
  // of each, from the end of the step before to its own. From the second step on tokens are those
  // that were drawn, which never leave the device. With `prompt_tokens` a step computes as many of
  // a prompt too, from its first on, in slot `rows`, which is then no row.
  Result<std::vector<double>> decode(int rows, int position, int steps, int prompt_tokens = 0);

 private:
  StepDriver(const ModelConfig& config, const StepDriverOptions& options);

  PlanRow make_row(BatchPlan& plan, int slot, int start, int count, bool last);
  // Runs steps with options.depth in flight; the seconds of each.
  using FillPlan = std::function<void(int step, BatchPlan& plan)>;
  Result<std::vector<double>> run_steps(int steps, const FillPlan& fill);

  int vocab_size_;
  StepDriverOptions options_;
  std::mt19937_64 random_;
  std::vector<std::unique_ptr<Request>> requests_;
  std::unique_ptr<ModelRunner> runner_;
  std::array<BatchPlan, 2> plans_;  // refilled in turn: the step before may be in flight
  std::uint64_t num_steps_ = 0;
  StepResult result_;
};

}  // namespace latentd
