// CostModel: how long one step of the engine takes, as a sum over what the step does.
//
//   seconds = step + row * decode rows + token * prefill tokens + pair * attended pairs
//
// An attended pair is one query token and one cached token: a decode row at context c has c, a
// prompt piece of n tokens from position s has n * s + n * (n + 1) / 2. Coefficients are fitted to
// the output of `latentd-bench --csv` by least squares of the *relative* error, with none below 0
// (the one most below is dropped and the rest fitted again).
//
// Contract: plain values, pure functions.
#pragma once

#include <string_view>
#include <vector>

#include "base/result.h"
#include "scheduler/batch_plan.h"

namespace latentd::loadtest {

struct StepWork {
  double steps = 1.0;
  double decode_rows = 0.0;
  double prefill_tokens = 0.0;
  double pairs = 0.0;
};

StepWork work_of(const BatchPlan& plan);

struct Measurement {
  StepWork work;
  double seconds = 0.0;
};

// The rows of `latentd-bench --csv`; prompts were cut into pieces of `chunk`. kInvalidArgument with
// the line at fault.
Result<std::vector<Measurement>> parse_bench_csv(std::string_view text, int chunk);

struct CostModel {
  double step = 1e-3;
  double row = 0.0;
  double token = 0.0;
  double pair = 0.0;

  double seconds(const StepWork& work) const {
    return step * work.steps + row * work.decode_rows + token * work.prefill_tokens +
           pair * work.pairs;
  }
};

struct Fit {
  CostModel model;
  double mean_error = 0.0;  // mean of |predicted - measured| / measured
  double worst_error = 0.0;
};

// kInvalidArgument when there are fewer measurements than coefficients.
Result<Fit> fit_cost_model(const std::vector<Measurement>& measurements);

}  // namespace latentd::loadtest
