// EngineRig: scheduler, runner and backend around a checkpoint, turned by hand instead of by
// the engine's thread.
//
// Every request gets a seed of its own, under which RecordingBackend keeps its logits.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/model/model_config.h"
#include "engine/model/weight_binder.h"
#include "engine/model_runner.h"
#include "engine/step_loop.h"
#include "kvcache/block_manager.h"
#include "scheduler/scheduler.h"
#include "tests/support/recording_backend.h"

namespace latentd {

struct RigOptions {
  int num_pages = 64;
  int page_tokens = 16;
  int max_model_len = 256;
  int max_num_seqs = 16;
  int max_num_batched_tokens = 64;
  int pipeline_depth = 1;
  int cpu_threads = 2;
  int expanded_min_tokens = 0;
  bool overcommit = false;
  bool prefix_cache = true;
  DType kv_cache_dtype = DType::kF32;
  bool batch_invariant = false;
  std::vector<int> graph_buckets = {};
  PrefixPolicy prefixes = {};  // of plans, told to the device when there may be any
  // Keeps all logits; the backend then captures no graphs.
  bool record_logits = true;
  DType activation = DType::kF32;  // CUDA; the CPU's is always fp32
  bool random_weights = false;     // model_dir has a config and no weights
  // Puts a backend of the test's between runner and device.
  std::function<std::unique_ptr<Backend>(std::unique_ptr<Backend>)> wrap = nullptr;
};

// The device of a rig: the CPU in test_engine_rig, CUDA in test_engine_rig_cuda.
Device rig_device();

// Its backend. The CPU's is always batch-invariant.
std::unique_ptr<Backend> make_rig_backend(const RigOptions& options);

class EngineRig {
 public:
  // Ends the process when the checkpoint cannot be loaded.
  EngineRig(const std::filesystem::path& model_dir, const RigOptions& options);

  struct Outcome {
    std::vector<TokenId> tokens;
    std::vector<float> logprobs;         // of `tokens`, when asked for
    std::vector<float> prompt_logprobs;  // when asked for
    int cached_tokens = 0;
    int preemptions = 0;
    bool finished = false;
    FinishReason reason = FinishReason::kStop;
    Status error;
  };

  // A request with defaults; its seed is its id.
  static std::unique_ptr<Request> request(std::uint64_t id, std::vector<TokenId> prompt,
                                          int max_new_tokens, float temperature = 0.0F);
  void submit(std::unique_ptr<Request> request);
  void cancel(std::uint64_t id);
  // One turn of the step loop. False when there is nothing left to do.
  bool turn();
  void run_until_idle();

  const Outcome& outcome(std::uint64_t id) const { return outcomes_.at(id); }
  // REQUIRES: record_logits. The logits of request `id`'s draws and prompt logprobs, by the
  // position of their token.
  std::map<std::int32_t, std::vector<float>> logits(std::uint64_t id) const;
  const ModelConfig& config() const { return config_; }
  Scheduler& scheduler() { return *scheduler_; }

 private:
  ModelWeights weights(const std::filesystem::path& model_dir, const RigOptions& options);

  ModelConfig config_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<Backend> backend_;
  const RecordingBackend* recording_ = nullptr;
  std::unique_ptr<ModelRunner> runner_;
  std::unique_ptr<BlockManager> blocks_;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<StepLoop> loop_;
  std::vector<Event> events_;
  std::map<std::uint64_t, Outcome> outcomes_;
};

}  // namespace latentd
