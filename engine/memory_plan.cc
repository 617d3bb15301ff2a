#include "engine/memory_plan.h"

#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>

#include "base/check.h"

namespace latentd {
namespace {

constexpr std::size_t kGiB = std::size_t{1} << 30;

// The number in a cgroup file; the largest size_t when there is none ("max", or no such file).
std::size_t read_limit(const char* path) {
  std::ifstream file(path);
  std::size_t bytes = 0;
  return file >> bytes ? bytes : std::numeric_limits<std::size_t>::max();
}

Status check_range(const char* option, int value, int least, int most) {
  if (value >= least && value <= most) return ok_status();
  return invalid_argument(option, fmt::format("must be from {} to {}, got {}", least, most, value));
}

Result<DType> cache_dtype(const ModelConfig& config, const EngineOptions& options) {
  const DType dtype = options.kv_cache_dtype.value_or(config.dtype);
  if (dtype != DType::kF32 && dtype != DType::kBF16 && dtype != DType::kF8E4M3) {
    return invalid_argument("kv_cache_dtype",
                            fmt::format("must be fp32, bf16 or fp8, got {}", dtype_name(dtype)));
  }
  LATENTD_RETURN_IF_ERROR(check_cached_in(config, dtype));
  return dtype;
}

Status check_dtype(const EngineOptions& options) {
  if (options.device == Device::kCpu && options.dtype.value_or(DType::kF32) != DType::kF32) {
    return invalid_argument(
        "dtype", fmt::format("the CPU computes in fp32, got {}", dtype_name(*options.dtype)));
  }
  return ok_status();
}

// Longest sequence and number of pages, from the budget or from what was asked for.
Status size_cache(const ModelConfig& config, const EngineOptions& options, std::size_t cache_budget,
                  MemoryPlan& plan) {
  const auto page_tokens = static_cast<std::size_t>(options.page_tokens);
  const std::size_t pages = options.kv_cache_tokens > 0
                                ? (options.kv_cache_tokens + page_tokens - 1) / page_tokens
                                : cache_budget / plan.layout.page_bytes();
  constexpr auto kMostPages = static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max());
  plan.num_pages = static_cast<int>(std::min(pages, kMostPages));
  const std::size_t held_tokens = static_cast<std::size_t>(plan.num_pages) * page_tokens;

  const int wanted =
      options.max_model_len > 0 ? options.max_model_len : config.max_position_embeddings;
  LATENTD_RETURN_IF_ERROR(check_range("max_model_len", wanted, 1, config.max_position_embeddings));
  plan.max_model_len = wanted;
  if (held_tokens >= static_cast<std::size_t>(wanted)) return ok_status();
  if (options.max_model_len == 0 && held_tokens > 0) {
    plan.max_model_len = static_cast<int>(held_tokens);
    return ok_status();
  }
  return {
      StatusCode::kResourceExhausted,
      fmt::format("the cache holds {} tokens ({} pages of {} bytes{}), fewer than one sequence of "
                  "max_model_len = {}; raise kv_cache_tokens or lower max_model_len",
                  held_tokens, plan.num_pages, plan.layout.page_bytes(),
                  options.kv_cache_tokens > 0 ? "" : fmt::format(" in {} bytes", cache_budget),
                  wanted)};
}

}  // namespace

Status check_cached_in(const ModelConfig& config, DType dtype) {
  if (config.attention == AttentionKind::kLatent || dtype != DType::kF8E4M3) return ok_status();
  return Status(StatusCode::kUnimplemented,
                fmt::format("fp8 holds latents (MLA) only; {} has {}, whose keys and values are "
                            "kept in fp32 or bf16",
                            config.architecture, attention_name(config)))
      .with_field("kv_cache_dtype");
}

CacheLayout cache_layout(const ModelConfig& config, DType dtype, int page_tokens) {
  switch (config.attention) {
    case AttentionKind::kLatent:
      return CacheLayout::mla(config.num_layers, config.kv_lora_rank, config.qk_rope_head_dim,
                              dtype, page_tokens);
    case AttentionKind::kGrouped:
      return CacheLayout::kv_heads(config.num_layers, config.num_kv_heads, config.qk_head_dim(),
                                   config.v_head_dim, dtype, page_tokens);
  }
  LATENTD_CHECK(false, "attention of kind {}", static_cast<int>(config.attention));
}

Result<MemoryPlan> plan_memory(const ModelConfig& config, const EngineOptions& options,
                               std::size_t cache_budget) {
  const bool cpu = options.device == Device::kCpu;
  LATENTD_RETURN_IF_ERROR(check_dtype(options));
  LATENTD_ASSIGN_OR_RETURN(const DType dtype, cache_dtype(config, options));
  MemoryPlan plan{cache_layout(config, dtype, options.page_tokens)};
  LATENTD_RETURN_IF_ERROR(plan.layout.validate());

  if (!(options.gpu_memory_utilization > 0.0 && options.gpu_memory_utilization <= 1.0)) {
    return invalid_argument(
        "gpu_memory_utilization",
        fmt::format("must be above 0 and at most 1, got {}", options.gpu_memory_utilization));
  }
  plan.max_num_seqs = options.max_num_seqs > 0 ? options.max_num_seqs : (cpu ? 64 : 256);
  LATENTD_RETURN_IF_ERROR(check_range("max_num_seqs", plan.max_num_seqs, 1, 4096));
  // docs/adr/0001-token-budget.md
  plan.max_num_batched_tokens = options.max_num_batched_tokens > 0
                                    ? options.max_num_batched_tokens
                                    : std::max(cpu ? 128 : 2048, plan.max_num_seqs);
  LATENTD_RETURN_IF_ERROR(check_range("max_num_batched_tokens", plan.max_num_batched_tokens,
                                      plan.max_num_seqs, 1 << 20));
  plan.pipeline_depth = options.pipeline_depth > 0 ? options.pipeline_depth : (cpu ? 1 : 2);
  LATENTD_RETURN_IF_ERROR(check_range("pipeline_depth", plan.pipeline_depth, 1, 2));
  LATENTD_RETURN_IF_ERROR(size_cache(config, options, cache_budget, plan));
  return plan;
}

std::size_t memory_limit_bytes() {
  const auto machine = static_cast<std::size_t>(::sysconf(_SC_PHYS_PAGES)) *
                       static_cast<std::size_t>(::sysconf(_SC_PAGE_SIZE));
  return std::min({machine, read_limit("/sys/fs/cgroup/memory.max"),
                   read_limit("/sys/fs/cgroup/memory/memory.limit_in_bytes")});
}

std::size_t cpu_cache_budget(std::size_t memory_limit) {
  return std::min(4 * kGiB, memory_limit / 4);
}

std::size_t device_budget(const DeviceMemory& memory, double utilization) {
  const auto share = static_cast<std::size_t>(static_cast<double>(memory.total) * utilization);
  return std::min(memory.free, share - std::min(share, memory.used_by_process));
}

std::size_t cache_budget(const Backend& backend, const EngineOptions& options) {
  const auto memory = backend.memory();
  if (!memory.has_value()) return cpu_cache_budget(memory_limit_bytes());
  const std::size_t budget = device_budget(*memory, options.gpu_memory_utilization);
  return budget - std::min(budget, kGraphBytes);
}

Status check_weights_fit(const Backend& backend, const EngineOptions& options,
                         std::size_t weight_bytes) {
  const auto memory = backend.memory();
  if (!memory.has_value()) return ok_status();
  const std::size_t budget = device_budget(*memory, options.gpu_memory_utilization);
  if (weight_bytes <= budget) return ok_status();
  return {StatusCode::kResourceExhausted,
          fmt::format("the weights need {} bytes; {} may be used: of the {} bytes of {} are {} "
                      "free, and gpu_memory_utilization is {}",
                      weight_bytes, budget, memory->total, backend.device_name(), memory->free,
                      options.gpu_memory_utilization)};
}

std::size_t mha_bytes_per_token(const ModelConfig& config, DType dtype) {
  return static_cast<std::size_t>(config.num_layers) * static_cast<std::size_t>(config.num_heads) *
         static_cast<std::size_t>(config.qk_head_dim() + config.v_head_dim) * dtype_size(dtype);
}

}  // namespace latentd
