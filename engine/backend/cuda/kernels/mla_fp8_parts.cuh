// What pieces of cut units leave for merging over an fp8 cache: fp16 sums as in mla_parts.cuh, in
// the order in which this kernel's threads hold them, 16 bytes at once that say themselves whether
// they are there.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/mla_fp8_tile.cuh"
#include "engine/backend/cuda/kernels/mla_parts.cuh"

namespace latentd::cuda {

// 16 bytes that are written and read as one: they are there when their first word is not zero.
// Whoever has read them makes them zeros again, and nobody writes them before the launch has ended.
__device__ inline void mla_fp8_leave(uint4* to, const uint4& words) {
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
__device__ inline uint4 mla_fp8_look(const uint4* from) {
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
__device__ inline void mla_fp8_take_away(uint4* from) { *from = uint4{0, 0, 0, 0}; }

// Of each half of a row, thread t of a warpgroup that holds the row has 8 sums, which lie behind
// one another: columns 2 c, 2 c + 1 of four blocks of 64, c = 8 (t / 32) + t % 32 / 4.
struct MlaFp8Parts : MlaHalfParts {
  static constexpr int kHalves = kMlaLatent / kColumns;
  static constexpr int kOfHalf = kColumns / kValues;  // words

  __device__ static uint4* words(const MlaFp8Partials& partials, std::size_t row, int half) {
    return partials.sums + (row * kHalves + static_cast<std::size_t>(half)) * kOfHalf;
  }
  // What undoes the scale of half a row, the reference of its scores, and the sum of its weights.
  __device__ static uint4* run(const MlaFp8Partials& partials, std::size_t row, int half) {
    return partials.runs + row * kHalves + static_cast<std::size_t>(half);
  }
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
