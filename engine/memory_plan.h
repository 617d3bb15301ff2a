// MemoryPlan: how many pages of cache there are and how long a sequence may be, before anything is
// allocated.
//
// Contract: pure functions of their arguments, except memory_limit_bytes, which asks the system.
#pragma once

#include <cstddef>
#include <string>

#include "base/result.h"
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

// Bytes a token that a cache of full keys and values would cost: layers * heads * (qk + v) *
// element size.
std::size_t mha_bytes_per_token(const ModelConfig& config, DType dtype);

}  // namespace latentd
