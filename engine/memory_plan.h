// MemoryPlan: how many pages of cache there are and how long a sequence may be.
//
// On CUDA it is made twice: with all that may be used, which bounds the workspace, and, when that
// is allocated, with what is left.
//
// Contract: pure functions of their arguments, except memory_limit_bytes, which asks the system.
#pragma once

#include <cstddef>
#include <string>

#include "base/result.h"
#include "engine/backend/backend.h"
#include "engine/engine.h"
#include "engine/model/model_config.h"
#include "kvcache/cache_layout.h"

namespace latentd {

struct MemoryPlan {
  CacheLayout layout;
  int num_pages = 0;
  int max_model_len = 0;
  int max_num_seqs = 0;
  int max_num_batched_tokens = 0;
  int pipeline_depth = 1;

  std::size_t cache_bytes() const {
    return static_cast<std::size_t>(num_pages) * layout.page_bytes();
  }
};

// kUnimplemented, naming the option, for a type in which the model's attention is not cached.
Status check_cached_in(const ModelConfig& config, DType dtype);

// What the model's attention caches: a plane of latents, or planes of keys and values.
CacheLayout cache_layout(const ModelConfig& config, DType dtype,
                         int page_tokens = CacheLayout::kDefaultPageTokens);

// Fills every option that was left open. `cache_budget` is the memory (bytes) that an automatically
// sized cache may take. kInvalidArgument, naming the option and its limit, for options that
// contradict each other or the model; kResourceExhausted, with the numbers, when the cache cannot
// hold one sequence of the length asked for.
Result<MemoryPlan> plan_memory(const ModelConfig& config, const EngineOptions& options,
                               std::size_t cache_budget);

// The memory that this process may use, in bytes: the least of the machine's and its cgroup's (v2
// or v1) limit.
std::size_t memory_limit_bytes();

// The CPU backend's budget for an automatically sized cache: min(4 GiB, a quarter of
// `memory_limit`).
std::size_t cpu_cache_budget(std::size_t memory_limit);

// Device memory kept free for what the CUDA runtime takes later: captured graphs, code of kernels
// that were not launched yet.
inline constexpr std::size_t kGraphBytes = std::size_t{256} << 20;

// What may still be allocated on a device of which this process may use the share `utilization` of
// the total: as vLLM's gpu_memory_utilization, but never more than is free.
std::size_t device_budget(const DeviceMemory& memory, double utilization);

// The budget for an automatically sized cache: the CPU's, or device_budget without kGraphBytes.
std::size_t cache_budget(const Backend& backend, const EngineOptions& options);

// kResourceExhausted, with the numbers, when the device cannot hold the weights.
Status check_weights_fit(const Backend& backend, const EngineOptions& options,
                         std::size_t weight_bytes);

// Bytes a token that a cache of full keys and values would cost: layers * heads * (qk + v) *
// element size.
std::size_t mha_bytes_per_token(const ModelConfig& config, DType dtype);

}  // namespace latentd
