// What `latentd inspect` tells: what a checkpoint is, what it weighs, what its cache costs a token
// beside keys and values of more or fewer heads, and how much fits into a given memory.
//
// Sizes are exact where the checkpoint fixes them: weights are the bytes of the bound tensors,
// cache bytes a token come from CacheLayout. A directory with nothing but a config.json is told
// about too; its weights are then counted from the shape.
//
// Contract: plain values and pure functions; `inspect_checkpoint` reads files and nothing else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/result.h"
#include "engine/model/model_config.h"

namespace latentd {

struct InspectOptions {
  std::filesystem::path model;
  std::size_t memory_bytes = 0;         // 0: what this machine or its cgroup allows
  std::optional<DType> kv_cache_dtype;  // unset: the checkpoint's
  int page_tokens = 64;
  bool json = false;
};

// One way to cache heads of this shape.
struct CacheCost {
  std::string name;  // "MLA", "MHA", "GQA", "MQA"
  int num_kv_heads;  // 0 for MLA
  std::size_t bytes_per_token;
  std::int64_t tokens_that_fit;  // whole pages, in `cache_budget_bytes`
};

struct Inspection {
  std::filesystem::path directory;
  ModelConfig config;
  bool weights_present = false;  // otherwise `weight_bytes` is computed from the shape
  std::size_t weight_bytes = 0;
  int num_unbound_tensors = 0;
  bool tokenizer_present = false;

  std::int64_t num_parameters = 0;
  std::int64_t num_active_parameters = 0;  // that a token is multiplied with, the head included

  DType kv_cache_dtype = DType::kBF16;
  std::size_t memory_bytes = 0;
  std::size_t cache_budget_bytes = 0;  // memory less weights less the share kept for all else
  std::vector<CacheCost> caches;       // the model's own first
};

// Of `memory_bytes`, what is kept for activations, the tokenizer and the doors.
inline constexpr double kReservedShare = 0.1;

// Parameters of a model of this shape. Active: those that one token is multiplied with, the head
// included, the embedding not (a tied one is the head).
std::int64_t count_parameters(const ModelConfig& config);
std::int64_t count_active_parameters(const ModelConfig& config);

// Errors: those of load_model_config and Checkpoint::open; kInvalidArgument for page_tokens.
Result<Inspection> inspect_checkpoint(const InspectOptions& options);

// For people, several lines; for programs, one JSON object with the same figures.
std::string inspection_text(const Inspection& inspection);
std::string inspection_json(const Inspection& inspection);

}  // namespace latentd
