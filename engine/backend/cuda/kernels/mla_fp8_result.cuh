// The 512 + 64 attention over an fp8 cache: from the workers' sums to a piece's result.
#pragma once

#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_parts.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_softmax.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_tile.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_values.cuh"
#include "engine/backend/cuda/kernels/mla_merge.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

// Half of a worker's sums: 256 latents.
template <int kQueries>
struct MlaFp8Half {
  float block[4][kQueries / 2];

  __device__ MlaFp8Half(const MlaFp8Sums<kQueries>& sums, int half) {
#pragma unroll
    for (int b = 0; b < 4; ++b) {
#pragma unroll
      for (int i = 0; i < kQueries / 2; ++i) {
        block[b][i] = half == 0 ? sums.block[b][i] : sums.block[b + 4][i];
      }
    }
  }
  // Column 2 n + c is of query 8 n + column + c.
  __device__ void scale(const float (&factors)[kQueries / 4]) {
#pragma unroll
    for (int b = 0; b < 4; ++b) {
#pragma unroll
      for (int i = 0; i < kQueries / 2; ++i) block[b][i] *= factors[i / 4 * 2 + i % 2];
    }
  }
  // Of the blocks b = 2 i, 2 i + 1; a warpgroup's threads write 2 KB at once.
  static constexpr int kPieces = 4 * kQueries / 2 / 4;  // float4s of a thread
  static constexpr int kOfStage = MlaFp8Tile::kStageKeys * MlaFp8Tile::kCodeBytes / 2048;
  static_assert(kPieces <= 2 * kOfStage);
  static __device__ float4* place(const MlaFp8Tile& tile, const int (&stages)[2], int i) {
    return reinterpret_cast<float4*>(tile.stage(stages[i / kOfStage]) + i % kOfStage * 2048) +
           threadIdx.x % MlaFp8Tile::kGroupThreads;
  }
  __device__ void give(const MlaFp8Tile& tile, const int (&stages)[2]) const {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const float* from = &block[i / (kQueries / 8)][i % (kQueries / 8) * 4];
      *place(tile, stages, i) = float4{from[0], from[1], from[2], from[3]};
    }
  }
  // += what the other worker gave, times `factors`.
  __device__ void take(const MlaFp8Tile& tile, const int (&stages)[2],
                       const float (&factors)[kQueries / 4]) {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const float4 other = *place(tile, stages, i);
      float* to = &block[i / (kQueries / 8)][i % (kQueries / 8) * 4];
      const int column = i % (kQueries / 8) * 2;
      to[0] = fmaf(other.x, factors[column], to[0]);
      to[1] = fmaf(other.y, factors[column + 1], to[1]);
      to[2] = fmaf(other.z, factors[column], to[2]);
      to[3] = fmaf(other.w, factors[column + 1], to[3]);
    }
  }
};

// Says what a worker's sums amount to: MlaFp8Runs finds it after a barrier of both.
template <int kQueries>
__device__ void mla_fp8_tell(const MlaFp8Tile& tile, const MlaFp8Thread& self,
                             MlaFp8Softmax<kQueries>& softmax) {
  mla_fp8_over_keys(softmax.sum, self, tile.sums(self.worker, self.warp), Sum{});
  if (self.warp != 0 || self.lane >= 4) return;
#pragma unroll
  for (int i = 0; i < kQueries / 4; i += 2) {
    *reinterpret_cast<float2*>(tile.references(self.worker) + i / 2 * 8 + self.column) =
        float2{softmax.reference[i], softmax.reference[i + 1]};
  }
  if (self.lane == 0) tile.unit(self.worker) = softmax.unit / kMlaFp8Weight;
}

// What a thread's columns are multiplied by, and what they amount to.
template <int kQueries>
struct MlaFp8Runs {
  static constexpr int kColumns = kQueries / 4;
  float own[kColumns];    // factors of the worker's sums
  float other[kColumns];  // and of the other's
  float reference[kColumns];
  float sum[kColumns];
  float inverse[kColumns];  // undoes the scale of a part

  // The result itself is divided by its sums; a part becomes fp16.
  __device__ MlaFp8Runs(const MlaFp8Tile& tile, const MlaFp8Thread& self, bool whole) {
    const int worker = self.worker;
    const float units[2] = {tile.unit(worker), tile.unit(1 - worker)};
    const float unit = fmaxf(units[0], units[1]);
#pragma unroll
    for (int i = 0; i < kColumns; i += 2) {
      const int q = i / 2 * 8 + self.column;
      float2 references[2];
      float2 sums[2];
#pragma unroll
      for (int w = 0; w < 2; ++w) {
        const int of = w == 0 ? worker : 1 - worker;
        references[w] = *reinterpret_cast<const float2*>(tile.references(of) + q);
        sums[w] = float2{0.0F, 0.0F};
#pragma unroll
        for (int warp = 0; warp < MlaFp8Tile::kWorkerWarps; ++warp) {
          const float2 one = *reinterpret_cast<const float2*>(tile.sums(of, warp) + q);
          sums[w].x += one.x;
          sums[w].y += one.y;
        }
      }
      find(i, whole, unit, units, references[0].x, references[1].x, sums[0].x, sums[1].x);
      find(i + 1, whole, unit, units, references[0].y, references[1].y, sums[0].y, sums[1].y);
    }
  }

 private:
  __device__ void find(int i, bool whole, float unit, const float (&units)[2], float r0, float r1,
                       float s0, float s1) {
    reference[i] = fmaxf(r0, r1);
    const float part0 = exp2_fast(r0 - reference[i]);
    const float part1 = exp2_fast(r1 - reference[i]);
    sum[i] = part0 * s0 + part1 * s1;
    const MlaHalfScale by = mla_fp8_half_scale(sum[i], unit);
    const float last = whole ? inverse_fast(sum[i]) : by.scale;
    own[i] = part0 * units[0] * last;
    other[i] = part1 * units[1] * last;
    inverse[i] = by.inverse;
  }
};

// Both workers, each with sums over its own keys: each stores a half of the latents. What is given
// lies in the stages of the worker's last tile, which nobody reads as keys any more; `own` and
// `other`: those of the workers. alone: the second worker has had none.
template <int kQueries>
__device__ void mla_fp8_store(const MlaFp8Tile& tile, const MlaFp8Thread& self,
                              const MlaAttentionParams& p, bool whole, int partial_row,
                              const MlaRows& rows, bool alone, const int (&own)[2],
                              const int (&other)[2], std::uint32_t launch,
                              const MlaFp8Sums<kQueries>& sums) {
  const int worker = self.worker;
  if (!alone || worker == 0) MlaFp8Half<kQueries>(sums, 1 - worker).give(tile, own);
  mla_value_barrier();
  const MlaFp8Runs<kQueries> runs(tile, self, whole);
  MlaFp8Half<kQueries> half(sums, worker);
  half.scale(runs.own);
  if (!alone || worker == 1) half.take(tile, other, runs.other);
  const int pair = self.warp * 8 + self.lane / 4;  // of a block
  if (whole) {
    auto* out = static_cast<__nv_bfloat16*>(p.attention.out) +
                static_cast<std::size_t>(rows.row) * kMlaLatent + worker * 256 + pair * 2;
#pragma unroll
    for (int i = 0; i < kQueries / 4; ++i) {
      const int r = i / 2 * 8 + self.column + i % 2;
      if (r >= rows.count) continue;
#pragma unroll
      for (int b = 0; b < 4; ++b) {
        const float* own = &half.block[b][i / 2 * 4 + i % 2];
        *reinterpret_cast<std::uint32_t*>(out + r * kMlaLatent + b * 64) =
            pack_pair(own[0], own[2]);
      }
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kQueries / 4; ++i) {
    const int r = i / 2 * 8 + self.column + i % 2;
    if (r >= rows.count) continue;
    const auto row = static_cast<std::size_t>(partial_row + r);
    __half2 pairs[4];
#pragma unroll
    for (int b = 0; b < 4; ++b) {
      const float* own = &half.block[b][i / 2 * 4 + i % 2];
      pairs[b] = __floats2half2_rn(own[0], own[2]);
    }
    auto words = *reinterpret_cast<const uint4*>(pairs);
    // What sees none of the keys may be NaN times 0.
    if (runs.sum[i] == 0.0F) words = uint4{0, 0, 0, 0};
    words.x = MlaFp8Parts::marked(words.x, launch);
    mla_leave(MlaFp8Parts::words(p.partials, row, worker) + pair, words);
    if (self.warp != 0 || self.lane >= 4) continue;
    mla_leave(MlaFp8Parts::run(p.partials, row, worker),
              uint4{__float_as_uint(runs.inverse[i]), __float_as_uint(runs.reference[i]),
                    __float_as_uint(runs.sum[i]), launch});
  }
}

}  // namespace latentd::cuda
