// What pieces of cut units leave for merging over an fp8 cache: as in mla_parts.cuh, in the order
// in which this kernel's threads hold sums.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/mla_fp8_tile.cuh"
#include "engine/backend/cuda/kernels/mla_parts.cuh"

namespace latentd::cuda {

// Of each half of a row, thread t of a warpgroup that holds the row has 8 sums, which lie behind
// one another: columns 2 c, 2 c + 1 of four blocks of 64, c = 8 (t / 32) + t % 32 / 4.
struct MlaFp8Parts : MlaHalfParts {
  __device__ static int column(int lane, int i) { return i * 64 + lane * 2; }
};

// By what a row's sums become fp16. Their largest is not looked for: with `sum` weights in all,
// none is larger than that many times the largest code under the largest scale, `unit` times
// kMlaFp8Weight.
__device__ inline MlaHalfScale mla_fp8_half_scale(float sum, float unit) {
  constexpr float kMostCode = 448.0F;
  return MlaHalfScale(sum * unit * (kMlaFp8Weight * kMostCode));
}

}  // namespace latentd::cuda
