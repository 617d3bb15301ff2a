#include "engine/step_loop.h"

#include "base/clock.h"

namespace latentd {

Status StepLoop::turn() {
  BatchPlan& plan = plans_[num_scheduled_ % 2];
  const bool scheduled = scheduler_.schedule(steady_now(), plan);
  launched_tokens_ = scheduled ? plan.num_tokens() : 0;
  if (scheduled) {
    ++num_scheduled_;
    LATENTD_RETURN_IF_ERROR(runner_.forward(plan));
  }
  if (in_flight_ > 0) LATENTD_RETURN_IF_ERROR(finish_oldest());
  if (!scheduled) return ok_status();
  LATENTD_RETURN_IF_ERROR(runner_.sample(plan));
  ++in_flight_;
  return pipeline_depth_ == 1 ? finish_oldest() : ok_status();
}

Status StepLoop::finish_oldest() {
  LATENTD_RETURN_IF_ERROR(runner_.wait(result_));
  --in_flight_;
  scheduler_.commit(result_, steady_now());
  return ok_status();
}

}  // namespace latentd
