// ModelRunner: a plan in, tokens out. Keeps everything that a slot carries from step to step on the
// device, so that a plan holds changes only.
//
// One step is two launches and a wait:
//
//   forward(plan)  stages the step's inputs and enqueues the layers
//   sample(plan)   asks constraints for their masks, enqueues head and sampler, and the copy of the
//   outcome wait(result)   blocks until the oldest launched step is done, and reads its outcome
//
// At pipeline depth 2 the order is forward(n+1), wait(n), [commit n], sample(n+1): the masks of
// step n+1 know token n, and the device never waits for them. Step inputs and outcomes live in a
// ring of two step buffers.
//
// Logits are computed for the rows that want them, in slices of at most kLogitsSlice rows.
//
// Contract: used by the engine thread only; owns all memory of one rank, allocated in `create` and
// never after. Constraints and requests named by a plan stay valid until the step was waited for.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "base/result.h"
#include "engine/backend/backend.h"
#include "engine/model/model_config.h"
#include "engine/runner_memory.h"
#include "kvcache/cache_layout.h"
#include "scheduler/batch_plan.h"

namespace latentd {

struct RunnerOptions {
  int max_num_seqs = 0;
  int max_num_batched_tokens = 0;
  int max_model_len = 0;
  int num_pages = 0;
  // Whether the device hears of the prefixes of plans.
  bool shares_prefixes = false;
  // Which rows at the end of a plan attend with expanded keys and values; none under batch
  // invariance, where every row has one form.
  ExpansionPolicy expansion = {};
  // Sizes to which steps of one token a row are padded, ascending, at most max_num_seqs and
  // kLogitsSlice (graph_buckets.h). Empty: steps are not padded. The backend captures them in
  // `create`.
  std::vector<int> graph_buckets = {};
};

class ModelRunner {
 public:
  static constexpr int kLogitsSlice = 256;
  // Most logit_bias, banned and similar entries of one request.
  static constexpr int kMaxLogitEdits = 1024;

  // `memory` was made with the same config, layout and options, and has its cache. Captures the
  // graphs of all buckets. REQUIRES: `backend`, and the owner of the weights where the backend
  // computes from host memory, outlive the runner.
  static Result<std::unique_ptr<ModelRunner>> create(Backend& backend, const ModelConfig& config,
                                                     const CacheLayout& layout,
                                                     const RunnerOptions& options,
                                                     RunnerMemory memory);
  ~ModelRunner();
  ModelRunner(const ModelRunner&) = delete;
  ModelRunner& operator=(const ModelRunner&) = delete;

  // Errors of all three are faults of the device: sticky, the engine cannot go on.
  Status forward(const BatchPlan& plan);
  Status sample(const BatchPlan& plan);
  Status wait(StepResult& result);

  // Device memory besides weights and cache.
  const std::vector<MemoryUse>& workspace() const;

 private:
  struct State;
  explicit ModelRunner(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace latentd
