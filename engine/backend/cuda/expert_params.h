// What the kernels of `experts` are given: all pointers are device memory.
//
// An entry is a pair of token and expert: t * experts_per_token + k for the token's k-th expert;
// after these n = tokens * experts_per_token come, for every shared expert that the launches
// compute, the tokens in order.
//
// Contract: plain data; E = experts, S = shared experts, N = n + S * tokens.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "base/dtype.h"
#include "engine/backend/op_params.h"

namespace latentd::cuda {

struct ExpertMatrices {
  const void* gate = nullptr;    // [inner, hidden]
  const void* up = nullptr;      // [inner, hidden]
  const void* down = nullptr;    // [hidden, inner], rows down_stride elements apart
  std::int64_t down_stride = 0;  // more than inner for a shared expert: a slice of one matrix
  const CUtensorMap* maps =
      nullptr;  // of gate, up and down; null where warp groups do not multiply
};

constexpr int kGateMap = 0;
constexpr int kUpMap = 1;
constexpr int kDownMap = 2;
constexpr int kExpertMaps = 3;

// Entries of one expert that are computed together: places first .. first + count - 1 of the order.
// With the matrices, so that who has read a part knows where to read weights.
struct ExpertPart {
  ExpertMatrices matrices;
  std::int32_t expert = 0;
  std::int32_t first = 0;
  std::int32_t count = 0;
};

struct ExpertStep {
  const void* x = nullptr;                   // [tokens, hidden]
  const std::int32_t* expert_ids = nullptr;  // [n]
  const float* expert_weights = nullptr;     // [n]
  const ExpertMatrices* experts = nullptr;   // [E + S]
  const float* shared = nullptr;             // [tokens, hidden] or null; then S = 0
  void* act = nullptr;                       // [N, inner]
  void* given = nullptr;                     // [N, hidden]: bf16 on tensor cores, else fp32
  void* hidden = nullptr;                    // [tokens, hidden]
  std::int32_t* order = nullptr;             // [n] entries sorted by expert
  ExpertPart* parts = nullptr;               // of at most part_tokens; shared experts' first
  std::int32_t* num_parts = nullptr;         // [1]
  bool tensor_cores = false;
  bool early = false;   // launch_dependent
  bool sorted = false;  // order, parts and num_parts are complete
  DType activation = DType::kF32;
  DType weights = DType::kF32;
  std::int32_t num_tokens = 0;
  std::int32_t num_entries = 0;  // n
  std::int32_t num_experts = 0;
  std::int32_t shared_experts = 0;
  std::int32_t experts_per_token = 0;
  std::int32_t hidden_size = 0;
  std::int32_t inner = 0;
  std::int32_t part_tokens = 0;
  std::int32_t most_parts = 0;  // that `parts` has room for
};

// What comes before the experts of a few tokens, in one launch (kernels/gate.cuh). All bf16.
struct GateStep {
  const void* hidden = nullptr;  // [tokens, hidden]
  const void* norm = nullptr;    // [hidden]
  const void* router = nullptr;  // [experts, hidden]
  const float* correction_bias = nullptr;
  void* normed = nullptr;  // [tokens, hidden]
  std::int32_t* expert_ids = nullptr;
  float* expert_weights = nullptr;
  std::int32_t* arrived = nullptr;  // [1], zero before and after
  RoutingParams routing;
  float norm_eps = 0.0F;
  ExpertStep experts;  // sorted here
};

}  // namespace latentd::cuda
