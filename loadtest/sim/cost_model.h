// CostModel: how long one step of the engine takes, as a sum over what the step does.
//
//   seconds = step + row * decode rows + token * prefill tokens
//                  + row_pair * pairs of decode rows + token_pair * pairs of prefill tokens
//                  + crowd_pair * pairs of decode rows beyond the first kCrowd
//                  + experts * share of the routed experts that the step reads
//
// A pair is a computed token and a token that it attends to: a decode row at context c has c + 1, a
// prompt piece of n tokens from position s has n * s + n * (n + 1) / 2. They cost different things:
// a prompt's tokens share what they read of the cache, decode rows do not, and many rows' latents
// do not fit a processor's caches any more. A mixture of experts reads those that its tokens chose:
// soon all of them, so that the second token costs nearly as much as the first and the 200th
// nothing. Coefficients are fitted by least squares of the
// *relative* error, with none below 0 (the one most below is dropped and the rest fitted again).
// The sum is linear, so a measurement may be one step (of latentd-bench) or all steps of a run (of
// a server, by its metrics).
//
// Contract: plain values, pure functions.
#pragma once

#include <vector>

#include "base/result.h"
#include "scheduler/batch_plan.h"

namespace latentd::loadtest {

struct StepWork {
  double steps = 1.0;
  double decode_rows = 0.0;
  double prefill_tokens = 0.0;
  double decode_pairs = 0.0;
  double prefill_pairs = 0.0;
  double crowd_pairs = 0.0;
  double experts = 0.0;  // share of the routed experts that is read, summed over the steps
};

inline constexpr double kCrowd = 8.0;
// Of decode_pairs in steps of so many rows.
double crowd_pairs(double decode_pairs, double rows_of_a_step);

// Share of the routed experts that a step of so many tokens reads, when each takes
// `routed_share` = num_experts_per_tok / n_routed_experts of them and chooses alone; 0 when dense.
double experts_read(double routed_share, double tokens_of_a_step);

StepWork work_of(const BatchPlan& plan, double routed_share);

// Pairs of `count` tokens from position `start`.
double piece_pairs(double start, double count);

struct Measurement {
  StepWork work;
  double seconds = 0.0;
};

struct CostModel {
  double step = 1e-3;
  double row = 0.0;
  double token = 0.0;
  double row_pair = 0.0;
  double token_pair = 0.0;
  double crowd_pair = 0.0;
  double experts = 0.0;       // of a step that reads all of them
  double routed_share = 0.0;  // as of experts_read
  double door = 0.0;          // of a request before it reaches the engine, not of a step

  double seconds(const StepWork& work) const {
    return step * work.steps + row * work.decode_rows + token * work.prefill_tokens +
           row_pair * work.decode_pairs + token_pair * work.prefill_pairs +
           crowd_pair * work.crowd_pairs + experts * work.experts;
  }
};

struct Fit {
  CostModel model;
  double mean_error = 0.0;  // mean of |predicted - measured| / measured
  double worst_error = 0.0;
};

// kInvalidArgument when there are fewer measurements than coefficients. `routed_share` is that of
// the measurements' work, for the model to keep.
Result<Fit> fit_cost_model(const std::vector<Measurement>& measurements, double routed_share = 0.0);

}  // namespace latentd::loadtest
