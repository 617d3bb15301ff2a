// What pieces of cut units leave for merging: a row of 512 partial sums a query vector, and how its
// scores run.
//
// Sums are fp16, multiplied by a power of two a row and half of it, so that the largest is near the
// largest that fp16 holds, and lie in the order in which threads hold them: 16 bytes a lane, 64 a
// quad. (Over an fp8 cache: mla_fp8_parts.cuh.)
//
// Words say themselves that they are there. Each is 16 bytes that are written and read as one
// (relaxed accesses of 128 bits, which do not tear), and bears the number of its launch: a word of
// sums its lowest bit, in the place of the lowest bit of its first sum. A plan's launches write the
// same words, every one of them, and none begins to write before the one before it is complete. So
// whoever reads a word finds what this launch or the one before it has left there, whose numbers
// differ in that bit, and needs to know of no other word: nothing is counted, no fence waits for
// stores, no order between words is relied on, and nobody has to take a word away. Only before a
// plan's first launch may a word hold anything; there pieces are counted (mla_merge.cuh).
#pragma once

#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

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

// 16 bytes that are written and read as one.
__device__ inline void mla_leave(uint4* to, const uint4& words) {
  asm volatile(
      "{\n"
      ".reg .b128 all;\n"
      ".reg .b64 low, high;\n"
      "mov.b64 low, {%1, %2};\n"
      "mov.b64 high, {%3, %4};\n"
      "mov.b128 all, {low, high};\n"
      "st.relaxed.gpu.global.b128 [%0], all;\n"
      "}\n" ::"l"(to),
      "r"(words.x), "r"(words.y), "r"(words.z), "r"(words.w)
      : "memory");
}
__device__ inline uint4 mla_look(const uint4* from) {
  uint4 words;
  asm volatile(
      "{\n"
      ".reg .b128 all;\n"
      ".reg .b64 low, high;\n"
      "ld.relaxed.gpu.global.b128 all, [%4];\n"
      "mov.b128 {low, high}, all;\n"
      "mov.b64 {%0, %1}, low;\n"
      "mov.b64 {%2, %3}, high;\n"
      "}\n"
      : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
      : "l"(from)
      : "memory");
  return words;
}

// kColumns columns of a row are read by a warp at once, kValues a lane.
struct MlaHalfParts {
  static constexpr int kColumns = 256;
  static constexpr int kValues = 8;
  static constexpr int kHalves = kMlaLatent / kColumns;
  static constexpr int kOfHalf = kColumns / kValues;  // words

  __device__ static uint4* words(const MlaPartials& partials, std::size_t row, int half) {
    return partials.sums + (row * kHalves + static_cast<std::size_t>(half)) * kOfHalf;
  }
  // What undoes the scale of half a row, the reference of its scores, the sum of its weights, and
  // the launch.
  __device__ static uint4* run(const MlaPartials& partials, std::size_t row, int half) {
    return partials.runs + row * kHalves + static_cast<std::size_t>(half);
  }
  // The first 4 bytes of 16 with the launch's mark, and whether it lacks.
  __device__ static std::uint32_t marked(std::uint32_t first, std::uint32_t launch) {
    return (first & ~1U) | (launch & 1U);
  }
  __device__ static bool lacks(const uint4& words, std::uint32_t launch) {
    return ((words.x ^ launch) & 1U) != 0;
  }
  // Its values do not depend on the mark.
  __device__ static void add(float (&total)[kValues], const uint4& words, float factor) {
    const std::uint32_t pairs[4] = {words.x & ~1U, words.y, words.z, words.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 values = __half22float2(*reinterpret_cast<const __half2*>(&pairs[i]));
      total[2 * i] = fmaf(factor, values.x, total[2 * i]);
      total[2 * i + 1] = fmaf(factor, values.y, total[2 * i + 1]);
    }
  }
  // Where among the columns values 2 i and 2 i + 1 of a lane belong.
  __device__ static int column(int lane, int i) { return (lane / 4 * 4 + i) * 8 + lane % 4 * 2; }
};

}  // namespace latentd::cuda
