// What the kernels of `experts` are given: all pointers are device memory.
//
// Contract: plain data; E = experts, n = entries = tokens * experts_per_token.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace latentd::cuda {

struct ExpertMatrices {
  const void* gate = nullptr;  // [inner, hidden]
  const void* up = nullptr;    // [inner, hidden]
  const void* down = nullptr;  // [hidden, inner]
};

struct ExpertStep {
  const void* x = nullptr;                   // [tokens, hidden]
  const std::int32_t* expert_ids = nullptr;  // [n]
  const float* expert_weights = nullptr;     // [n]
  const ExpertMatrices* experts = nullptr;   // [E]
  const float* shared = nullptr;             // [tokens, hidden] or null
  void* act = nullptr;                       // [n, inner]
  float* given = nullptr;                    // [n, hidden]
  void* hidden = nullptr;                    // [tokens, hidden]
  std::int32_t* counts = nullptr;            // [E]
  std::int32_t* first_entry = nullptr;       // [E + 1]
  std::int32_t* first_tile = nullptr;        // [E + 1]
  std::int32_t* order = nullptr;             // [n] entries sorted by expert
  DType activation = DType::kF32;
  DType weights = DType::kF32;
  std::int32_t num_tokens = 0;
  std::int32_t num_entries = 0;
  std::int32_t num_experts = 0;
  std::int32_t experts_per_token = 0;
  std::int32_t hidden_size = 0;
  std::int32_t inner = 0;
};

}  // namespace latentd::cuda
