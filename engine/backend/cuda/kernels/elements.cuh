// Elements of fp32 or bf16 behind one pointer, computed with in fp32.
//
// The dtype is the same for a whole launch, so the branch never diverges; what must be fast reads
// its own type instead.
//
// Contract: device code; no bounds are checked.
#pragma once

#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace latentd::cuda {

struct ConstElements {
  const void* data;
  DType dtype;

  __device__ float operator[](std::size_t i) const {
    return dtype == DType::kF32 ? static_cast<const float*>(data)[i]
                                : __bfloat162float(static_cast<const __nv_bfloat16*>(data)[i]);
  }
};

struct Elements {
  void* data;
  DType dtype;

  __device__ float operator[](std::size_t i) const { return ConstElements{data, dtype}[i]; }
  // Rounds to nearest even.
  __device__ void set(std::size_t i, float value) const {
    if (dtype == DType::kF32) {
      static_cast<float*>(data)[i] = value;
    } else {
      static_cast<__nv_bfloat16*>(data)[i] = __float2bfloat16_rn(value);
    }
  }
};

// Two values of bf16, the first in the lower half.
__device__ inline std::uint32_t pack_pair(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

// Eight values of bf16 in one piece of 16 bytes.
__device__ inline void unpack_eight(const uint4& packed, float (&values)[8]) {
  const auto* pairs = reinterpret_cast<const __nv_bfloat162*>(&packed);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    values[2 * i] = __low2float(pairs[i]);
    values[2 * i + 1] = __high2float(pairs[i]);
  }
}

__device__ inline uint4 pack_eight(const float (&values)[8]) {
  uint4 packed;
  auto* pairs = reinterpret_cast<__nv_bfloat162*>(&packed);
#pragma unroll
  for (int i = 0; i < 4; ++i) pairs[i] = __floats2bfloat162_rn(values[2 * i], values[2 * i + 1]);
  return packed;
}

// Without branches: two units in the last place of fp32 are nothing to bf16, and where tiles end a
// division with its special cases costs more than the rest.
__device__ inline float silu(float x) { return __fdividef(x, 1.0F + __expf(-x)); }

}  // namespace latentd::cuda
