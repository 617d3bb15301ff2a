// StepDriver: runs steps of a chosen shape through the real ModelRunner and times them, without
// scheduler, engine thread or server.
//
// Every slot has its own pages. Tokens are random and every row draws with the sampler's defaults,
// so a step costs what it costs in service.
//
// Contract: single-threaded; REQUIRES that backend and weights outlive it.
#pragma once

#include <cstdint>
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
  int max_rows = 1;
  int max_length = 1;  // tokens of a sequence
  int chunk = 512;     // most tokens of a step, if there are not more rows
  int expanded_min_tokens = 0;
};

class StepDriver {
 public:
  static Result<std::unique_ptr<StepDriver>> create(Backend& backend, const ModelConfig& config,
                                                    const ModelWeights& weights,
                                                    const CacheLayout& layout,
                                                    const StepDriverOptions& options);

  // Computes tokens [start, start + count) of the slot, in chunks; seconds.
  Result<double> prefill(int slot, int start, int count);

  // One token for each of the slots 0 .. rows - 1 at `position`; seconds.
  Result<double> decode(int rows, int position);

 private:
  StepDriver(const ModelConfig& config, const StepDriverOptions& options);

  PlanRow make_row(int slot, int start, int count, bool last);
  Result<double> run_step();

  int vocab_size_;
  StepDriverOptions options_;
  std::mt19937_64 random_;
  std::vector<std::unique_ptr<Request>> requests_;
  std::unique_ptr<ModelRunner> runner_;
  BatchPlan plan_;
  StepResult result_;
};

}  // namespace latentd
