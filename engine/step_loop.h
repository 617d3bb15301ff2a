// StepLoop: the pipeline between scheduler and runner, one turn at a time.
//
// At depth 1 a turn is schedule, forward, sample, wait, commit. At depth 2 step n+1 is scheduled
// and its layers are launched before step n is waited for, and its sampler after step n was
// committed, so that constraints have seen token n:
//
//   schedule n+1 | forward n+1 | wait n | commit n | sample n+1
//
// Contract: used by one thread. REQUIRES: scheduler and runner outlive it and are driven by nobody
// else.
#pragma once

#include <array>
#include <cstdint>

#include "base/status.h"
#include "engine/model_runner.h"
#include "scheduler/batch_plan.h"
#include "scheduler/scheduler.h"

namespace latentd {

class StepLoop {
 public:
  StepLoop(Scheduler& scheduler, ModelRunner& runner, int pipeline_depth)
      : scheduler_(scheduler), runner_(runner), pipeline_depth_(pipeline_depth) {}

  // Launches a step if there is something to compute, finishes one if one is due. Errors are sticky
  // faults of the device.
  Status turn();

  // Tokens of the step that the last turn launched; 0 when there was nothing to compute.
  int launched_tokens() const { return launched_tokens_; }
  // True when only a new request or the passing of time brings work.
  bool idle() const { return launched_tokens_ == 0 && in_flight_ == 0; }

 private:
  Status finish_oldest();

  Scheduler& scheduler_;
  ModelRunner& runner_;
  const int pipeline_depth_;
  std::array<BatchPlan, 2> plans_;
  StepResult result_;
  std::uint64_t num_scheduled_ = 0;
  int in_flight_ = 0;
  int launched_tokens_ = 0;
};

}  // namespace latentd
