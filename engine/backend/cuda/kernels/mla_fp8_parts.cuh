// What pieces of cut units leave for merging over an fp8 cache: fp16 sums as in mla_parts.cuh, in
// the order in which this kernel's threads hold them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/mla_fp8_tile.cuh"
#include "engine/backend/cuda/kernels/mla_parts.cuh"

namespace latentd::cuda {

// Where a unit has few pieces the workers do not join their sums: each leaves a part, the second
// kMlaFp8PartRows behind the first, and merging joins them.
constexpr int kMlaFp8FewPieces = 8;
constexpr int kMlaFp8PartRows = kMlaTileRows / 2;

// Unless they have queries of their own.
template <bool kWide>
__device__ inline bool mla_fp8_leaves_two(int pieces, int vectors) {
  return !kWide && pieces > 1 && pieces <= kMlaFp8FewPieces && vectors <= kMlaFp8PartRows;
}

// Of each half of a row, thread t of a warpgroup that holds the row has 8 sums, which lie behind
// one another: columns 2 c, 2 c + 1 of four blocks of 64, c = 8 (t / 32) + t % 32 / 4.
struct MlaFp8Parts : MlaHalfParts {
  // As bf16 to columns of which the warp's first is at `out`: lane c has those of the thread above.
  __device__ static void store(__nv_bfloat16* out, const float (&total)[kValues], int lane) {
#pragma unroll
    for (int b = 0; b < kValues / 2; ++b) {
      *reinterpret_cast<std::uint32_t*>(out + b * 64 + lane * 2) =
          mla_pair(total[2 * b], total[2 * b + 1]);
    }
  }
};

// By what a row's sums become fp16. Their largest is not looked for: with `sum` weights in all,
// none is larger than that many times the largest code under the largest scale, `unit` times
// kMlaFp8Weight.
__device__ inline MlaHalfScale mla_fp8_half_scale(float sum, float unit) {
  constexpr float kMostCode = 448.0F;
  return MlaHalfScale(sum * unit * (kMlaFp8Weight * kMostCode));
}

}  // namespace latentd::cuda
