// What the 512 + 64 attention kernel and its plan are launched with.
#pragma once

#include <vector_types.h>

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
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
  MlaWork* works = nullptr;       // [num_rows]
  MlaPrefix* prefix = nullptr;    // [num_rows + 1]
  MlaShare* shares = nullptr;     // [division.shares]
  MlaPiece* pieces = nullptr;     // [mla_places]
  std::int32_t* pages = nullptr;  // [division.shares, kMlaKnownPages]
  // Where rows may share prefixes.
  std::int32_t* unit_ends = nullptr;  // [num_rows]
  MlaSegment* segments = nullptr;     // [mla_most_segments]
  std::uint32_t* counters = nullptr;  // [num_counters], to be cleared
  std::int32_t num_counters = 0;
};

// Partial results, mla_partial_rows each; what they hold before a plan's first launch does not
// matter (kernels/mla_parts.cuh).
struct MlaPartials {
  uint4* sums = nullptr;  // [.., 64]: sums of exp2(score - reference) * latent
  uint4* runs = nullptr;  // [.., 2]: of each half what its scale is, reference and sum of weights
  // How many pieces of a unit were complete in the plan's first launch, and how many launches each
  // CTA has seen since the plan, which clears both.
  std::uint32_t* arrived = nullptr;   // [mla_slots, group]
  std::uint32_t* launches = nullptr;  // [division.shares, group]
};

struct MlaAttentionParams {
  AbsorbedAttentionParams attention;
  MlaDivision division;
  const MlaShare* shares = nullptr;
  const MlaPiece* pieces = nullptr;
  const std::int32_t* pages = nullptr;
  const MlaSegment* segments = nullptr;
  MlaPartials partials;
  // Not the plan's first launch. Then the plan, and the keys of tokens before this step, need not
  // be waited for: each block of the first launch fills a multiprocessor and stays until they are
  // complete, and nothing that comes behind it can be placed until one leaves.
  bool known = false;
};

}  // namespace latentd::cuda
