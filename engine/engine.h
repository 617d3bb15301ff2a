// Engine: requests in, events out. One thread that owns the scheduler, the block manager and the
// runner of one rank.
//
//   submit / cancel (any thread) -> mailbox -> scheduler -> runner -> events -> EventSink (on the
//   engine thread)
//
// Contract: created ready (weights bound, memory allocated); runs until `stop` or destruction.
// Nothing is a singleton: a process may hold several. Text never enters it.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "engine/load_clock.h"
#include "engine/memory_use.h"
#include "engine/model/generation_defaults.h"
#include "engine/model/model_config.h"
#include "scheduler/request.h"
#include "scheduler/scheduler.h"

namespace latentd {

class Backend;

enum class Device : std::uint8_t { kCpu, kCuda, kAuto };

enum class LoadFormat : std::uint8_t {
  kAuto,    // the model's safetensors
  kRandom,  // random weights of the config's shape, the same every time
};

struct EngineOptions {
  Device device = Device::kCpu;  // kAuto: CUDA when a device answers, else the CPU
  int cpu_threads = 0;           // 0: what the cgroup and the affinity mask allow
  std::optional<DType>
      dtype;  // activations; unset follows the checkpoint (the CPU always computes in fp32)
  std::optional<DType> kv_cache_dtype;  // fp32, bf16 or fp8; unset follows the checkpoint
  // 0: sized from memory (CPU: min(4 GiB, 25 % of the cgroup's limit); CUDA: what is left)
  std::size_t kv_cache_tokens = 0;
  double gpu_memory_utilization = 0.9;  // share of the GPU's memory that this process may use
  LoadFormat load_format = LoadFormat::kAuto;
  int page_tokens = 64;   // 16, 32 or 64
  int max_model_len = 0;  // 0: the model's max_position_embeddings, as far as the cache holds it
  int max_num_seqs = 0;   // 0: 64 on the CPU, 256 on CUDA
  int max_num_batched_tokens = 0;  // 0: 128 on the CPU, 2048 on CUDA
  int pipeline_depth = 0;          // 0: 1 on the CPU, 2 on CUDA
  // One form and one order of sums for every row. Unset: on the CPU yes, on CUDA no.
  std::optional<bool> batch_invariant;
  bool prefix_cache = true;
  // Whether the device reads keys once that several sequences share, where it can: CUDA, up to 32
  // heads, and not under batch_invariant, since a row's bits would depend on who shares with it.
  bool shared_prefixes = false;
  bool overcommit = false;
  std::size_t mailbox_capacity = 4096;  // requests accepted and not yet seen by the scheduler
};

// What the engine is, for logs, metrics and GetModel. Fixed after load.
struct EngineInfo {
  std::string device;  // "cpu", "NVIDIA H100 80GB HBM3"
  DType activation_dtype = DType::kF32;
  DType kv_cache_dtype = DType::kF32;
  std::string attention;  // "MLA", "MHA", "GQA", "MQA"
  int max_model_len = 0;
  int max_num_seqs = 0;
  int max_num_batched_tokens = 0;
  int page_tokens = 0;
  int num_pages = 0;
  bool prefix_cache = true;
  std::size_t kv_bytes_per_token = 0;      // all layers
  std::size_t mha_kv_bytes_per_token = 0;  // of keys and values of as many heads as queries have
  std::size_t weight_bytes = 0;
  // What memory holds: weights, workspace by purpose, cache; for a device with memory of its own
  // also what the runtime took, what others hold, and what is free: all that there is.
  std::vector<MemoryUse> memory;
  Duration load_time{};
  std::vector<LoadPart> load_parts;  // what load_time was spent on, in order
};

// How many tokens steps computed: counts[i] steps had at most kBounds[i] and more than the bound
// before; the last had more than all.
struct StepTokens {
  static constexpr std::array kBounds = {1,   8,    16,   32,   64,   128,  256,
                                         512, 1024, 2048, 4096, 8192, 16384};

  std::array<std::uint64_t, kBounds.size() + 1> counts{};
  std::uint64_t sum = 0;

  void observe(int tokens) {
    const auto bound = std::ranges::lower_bound(kBounds, tokens);
    ++counts[static_cast<std::size_t>(bound - kBounds.begin())];
    sum += static_cast<std::uint64_t>(tokens);
  }
};

// A snapshot that the engine thread publishes once a step.
struct EngineStats {
  SchedulerStats scheduler;
  std::size_t mailbox_depth = 0;
  TimePoint heartbeat{};            // the last time that the engine thread was seen alive
  double step_seconds_total = 0.0;  // time spent in steps
  std::uint64_t steps = 0;
  int last_step_tokens = 0;
  StepTokens step_tokens;
};

// What the pages of the cache are used for, as of `time`.
struct PageMap {
  std::vector<PageRun> runs;  // in the order of the pages' numbers; empty: none was drawn yet
  TimePoint time{};
};

// Called on the engine thread, once a step at most, with everything that happened; must not block.
using EventSink = std::function<void(std::span<Event> events)>;
// Likewise, with what became of the prefix cache.
using PrefixSink = std::function<void(PrefixChanges changes)>;

class Engine {
 public:
  // Reads config, weights and defaults from `model_dir`, allocates all memory and starts the
  // thread. Errors name the file or the option and the numbers.
  static Result<std::unique_ptr<Engine>> load(const std::filesystem::path& model_dir,
                                              const EngineOptions& options, EventSink sink);
  // The same on a backend that the caller made for options.device.
  static Result<std::unique_ptr<Engine>> load(const std::filesystem::path& model_dir,
                                              const EngineOptions& options, EventSink sink,
                                              std::unique_ptr<Backend> backend);
  ~Engine();  // stops
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Any thread. kResourceExhausted when the mailbox is full, kUnavailable when stopped or failed;
  // kInvalidArgument as Scheduler::submit for what can never fit (checked here, on the caller's
  // thread). After ok, exactly one kFinished event follows.
  Status submit(std::unique_ptr<Request> request);

  // Any thread; never refused, never blocks. Unknown ids are ignored.
  void cancel(RequestId id, FinishReason reason = FinishReason::kCancelled);

  const ModelConfig& config() const;
  const GenerationDefaults& generation_defaults() const;
  const EngineInfo& info() const;
  EngineStats stats() const;  // any thread

  // Any thread. The map that was drawn last. Asking for it makes the engine thread draw another
  // when this one is a second old, after its next step (idle: within a second); while nobody asks,
  // none is drawn.
  PageMap page_map();

  // Any thread; never blocks. From its next turn on, the engine's thread gives `sink` what the
  // prefix cache gains and loses, once a step and before the step's events; first of all what it
  // holds. One sink at a time: another begins anew, an empty one ends it. The sink must not block.
  void watch_prefixes(PrefixSink sink);

  // Any thread. False after a fault that the engine cannot survive; all in flight were then failed
  // with kUnavailable.
  bool healthy() const;

  // Cancels what is alive, joins the thread. Idempotent.
  void stop();

 private:
  struct State;
  explicit Engine(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace latentd
