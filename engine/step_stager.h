// StepStager: writes what a plan says into the step buffers that the device will read.
//
// Remembers the request of every slot, which a plan names only when the slot starts.
//
// Contract: owned and used by ModelRunner. Requests stay valid until the last step that names their
// slot was waited for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/runner_memory.h"
#include "engine/step_buffers.h"
#include "scheduler/batch_plan.h"
#include "scheduler/request.h"

namespace latentd {

class StepStager {
 public:
  // REQUIRES: `backend` and `memory` outlive the stager.
  StepStager(Backend& backend, RunnerMemory& memory, std::int32_t vocab_size, int max_num_seqs);

  // Everything that the layers need, and which rows of logits are wanted. Replaces what `step`
  // held.
  void stage_forward(const BatchPlan& plan, StepBuffers& step);
  // What the draws need, when constraints have seen all earlier tokens.
  void stage_sample(StepBuffers& step);

  std::size_t mask_words() const { return mask_words_; }

 private:
  void start_slot(const SlotStart& start, const BatchPlan& plan);
  static void stage_pages(const PageTableChange& change, const BatchPlan& plan, StepBuffers& step);
  void stage_row(const PlanRow& row, const BatchPlan& plan, StepBuffers& step);
  void stage_logits(const PlanRow& row, std::int32_t first_token, StepBuffers& step);
  bool stage_draw(const Request& request, SampleRow& row, StepBuffers& step);
  std::span<const std::uint32_t> stage_mask(const Request& request, SampleRow& row,
                                            StepBuffers& step);

  Backend& backend_;
  RunnerMemory& memory_;
  std::int32_t vocab_size_;
  std::size_t mask_words_;                     // of one row's mask
  std::vector<std::uint32_t> allowed_mask_;    // [mask_words_], scratch
  std::vector<const Request*> slot_requests_;  // [slots]
  std::size_t count_rows_staged_ = 0;          // since the device was last waited for
};

}  // namespace latentd
