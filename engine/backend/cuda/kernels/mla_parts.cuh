// What pieces of cut units leave for merging: a row of 512 partial sums a query vector, and how its
// scores run.
//
// Sums are fp16, multiplied by a power of two a row and half of it, so that the largest is near the
// largest that fp16 holds, and lie in the order in which threads hold them: 16 bytes a lane, 64 a
// quad. (Over an fp8 cache: mla_fp8_parts.cuh.)
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

__device__ inline std::uint32_t mla_pair(float a, float b) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

// Lane q of a quad has words i = 0 .. 3; it gets word q of lanes 0 .. 3: first blocks of two are
// exchanged, then words within them.
__device__ inline void mla_transpose_quad(std::uint32_t (&words)[4], int quarter) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const std::uint32_t other =
        __shfl_xor_sync(kAllLanes, quarter < 2 ? words[i + 2] : words[i], 2);
    (quarter < 2 ? words[i + 2] : words[i]) = other;
  }
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    const std::uint32_t other =
        __shfl_xor_sync(kAllLanes, quarter % 2 == 0 ? words[i + 1] : words[i], 1);
    (quarter % 2 == 0 ? words[i + 1] : words[i]) = other;
  }
}

// Powers of two: what brings a largest magnitude near 2^15, and its inverse. Bounded, so that both
// are numbers whatever it is.
struct MlaHalfScale {
  __device__ explicit MlaHalfScale(float largest) {
    constexpr int kBias = 127;
    const int exponent = static_cast<int>(__float_as_uint(largest) >> 23) - kBias;
    const int up = min(14 - exponent, 100);
    scale = __uint_as_float(static_cast<std::uint32_t>(kBias + up) << 23);
    inverse = __uint_as_float(static_cast<std::uint32_t>(kBias - up) << 23);
  }
  float scale;
  float inverse;
};

// kColumns columns of a row are read by a warp at once, kValues a lane.
struct MlaHalfParts {
  static constexpr int kColumns = 256;
  static constexpr int kValues = 8;

  __device__ static const void* row(const MlaPartials& partials, int row) {
    return static_cast<const __half*>(partials.sums) + static_cast<std::size_t>(row) * kMlaLatent;
  }
  // What sums were multiplied with.
  __device__ static float inverse_scale(const MlaPartials& partials, int row, int column) {
    return __ldcg(&partials.scales[2 * row + column / kColumns]);
  }
  __device__ static void add(float (&total)[kValues], const uint4& words, float factor) {
    const std::uint32_t pairs[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 values = __half22float2(*reinterpret_cast<const __half2*>(&pairs[i]));
      total[2 * i] = fmaf(factor, values.x, total[2 * i]);
      total[2 * i + 1] = fmaf(factor, values.y, total[2 * i + 1]);
    }
  }
  // As bf16 to columns of which the warp's first is at `out`.
  __device__ static void store(__nv_bfloat16* out, const float (&total)[kValues], int lane) {
    std::uint32_t pairs[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) pairs[i] = mla_pair(total[2 * i], total[2 * i + 1]);
    mla_transpose_quad(pairs, lane % 4);
    *reinterpret_cast<uint4*>(out + lane * 8) = uint4{pairs[0], pairs[1], pairs[2], pairs[3]};
  }
};

}  // namespace latentd::cuda
