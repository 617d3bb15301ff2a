// What the 512 + 64 attention kernel and its plan are launched with.
#pragma once

#include <vector_types.h>

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "engine/backend/cuda/mla_chain.h"
#include "engine/backend/cuda/mla_plan.h"
#include "engine/backend/op_params.h"

namespace latentd::cuda {

inline constexpr int kMlaLatent = 512;
inline constexpr int kMlaRope = 64;
inline constexpr int kMlaWidth = kMlaLatent + kMlaRope;

// Whether one of the two kernels computes this: sm_90, bf16 over a bf16 or fp8 cache, pages of 16,
// 32 or a multiple of 64 tokens, and addresses that the copy engine takes.
constexpr bool mla_kernel_fits(const MlaGeometry& g, std::int32_t page_tokens, DType activation,
                               DType cache) {
  return g.kv_lora_rank == kMlaLatent && g.rope_dim == kMlaRope && g.num_heads >= 1 &&
         g.num_heads <= 128 && activation == DType::kBF16 &&
         (cache == DType::kBF16 || cache == DType::kF8E4M3) &&
         (page_tokens == 16 || page_tokens == 32 || (page_tokens > 0 && page_tokens % 64 == 0));
}

struct MlaPlanParams {
  BatchView batch;
  std::int32_t page_tokens = 0;
  MlaDivision division;
  MlaWork* works = nullptr;       // [2 num_rows]
  MlaPrefix* prefix = nullptr;    // [2 num_rows + 1]
  MlaShare* shares = nullptr;     // [division.shares]
  MlaPiece* pieces = nullptr;     // [mla_places]
  std::int32_t* pages = nullptr;  // [division.shares, kMlaKnownPages]
  MlaChain* chains = nullptr;     // [num_rows]
  MlaParts* parts = nullptr;      // [mla_places], of chained units
  std::int32_t* num_chains = nullptr;
};

// Partial results, mla_partial_rows each; what they hold before a launch does not matter.
struct MlaPartials {
  float* sums = nullptr;  // [.., 512]: sum of exp2(score - highest) * latent
  float2* runs = nullptr;
  std::uint32_t* arrived = nullptr;      // [mla_slots, group]: 0 between launches
  std::uint32_t* all_arrived = nullptr;  // the same, of all CTAs
};

struct MlaAttentionParams {
  AbsorbedAttentionParams attention;
  MlaDivision division;
  const MlaShare* shares = nullptr;
  const MlaPiece* pieces = nullptr;
  const std::int32_t* pages = nullptr;
  const MlaChain* chains = nullptr;
  const MlaParts* parts = nullptr;
  const std::int32_t* num_chains = nullptr;
  MlaPartials partials;
};

}  // namespace latentd::cuda
