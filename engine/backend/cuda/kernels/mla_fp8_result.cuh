// The 512 + 64 attention over an fp8 cache: from the workers' sums to a piece's result.
#pragma once

#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>

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

// What a thread's columns are multiplied by, and what they amount to.
template <int kQueries>
struct MlaFp8Runs {
  static constexpr int kColumns = kQueries / 4;
  float factor[2][kColumns];  // of the workers' sums
  float2 run[kColumns];       // of the piece: highest score, sum of exponentials
  float unit;                 // the workers' larger

  // Of `worker` alone.
  __device__ MlaFp8Runs(const MlaFp8Tile& tile, const MlaFp8Thread& self, int worker)
      : unit(tile.unit(worker)) {
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      run[i] = tile.runs(worker)[i / 2 * 8 + self.column + i % 2];
      factor[0][i] = tile.unit(worker);
      factor[1][i] = 0.0F;
    }
  }
  // Of both.
  __device__ MlaFp8Runs(const MlaFp8Tile& tile, const MlaFp8Thread& self)
      : unit(fmaxf(tile.unit(0), tile.unit(1))) {
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const int q = i / 2 * 8 + self.column + i % 2;
      const float2 own[2] = {tile.runs(0)[q], tile.runs(1)[q]};
      const float highest = fmaxf(own[0].x, own[1].x);
      const float offset = highest == -INFINITY ? 0.0F : highest;
      float sum = 0.0F;
#pragma unroll
      for (int w = 0; w < 2; ++w) {
        const float part = exp2_fast(own[w].x - offset);
        factor[w][i] = part * tile.unit(w);
        sum += part * own[w].y;
      }
      run[i] = {highest, sum};
    }
  }
  // The result itself is divided by its sums; a part becomes fp16. inverse: what undoes the latter.
  __device__ void finish(bool whole, float (&inverse)[kColumns]) {
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const MlaHalfScale by = mla_fp8_half_scale(run[i].y, unit);
      const float last = whole ? 1.0F / run[i].y : by.scale;
      factor[0][i] *= last;
      factor[1][i] *= last;
      inverse[i] = by.inverse;
    }
  }
};

// Where a piece's sums go.
struct MlaFp8Target {
  __device__ MlaFp8Target(const MlaAttentionParams& p, const MlaPiece& piece, const MlaRows& rows,
                          int rank)
      : partials(p.partials),
        out(static_cast<__nv_bfloat16*>(p.attention.out) +
            static_cast<std::size_t>(rows.row) * kMlaLatent),
        partial(static_cast<std::size_t>(mla_partial_row(piece, p.division, piece.index, rank))),
        count(rows.count),
        whole(piece.count == 1) {}

  // A thread's latents of half `half` of query r, of each block of 64: of a unit's result, or of a
  // piece's part of it, where `inverse` undoes their scale.
  __device__ void store(const MlaFp8Thread& self, int r, int half, float2 run, float inverse,
                        const float2 (&values)[4]) const {
    if (r >= count) return;
    const int pair = self.warp * 8 + self.lane / 4;  // of a block
    if (whole) {
      __nv_bfloat16* to = out + r * kMlaLatent + half * 256 + pair * 2;
#pragma unroll
      for (int b = 0; b < 4; ++b) {
        *reinterpret_cast<std::uint32_t*>(to + b * 64) = mla_pair(values[b].x, values[b].y);
      }
      return;
    }
    const std::size_t at = partial + static_cast<std::size_t>(r);
    __half2 pairs[4];
#pragma unroll
    for (int b = 0; b < 4; ++b) pairs[b] = __floats2half2_rn(values[b].x, values[b].y);
    *reinterpret_cast<uint4*>(static_cast<__half*>(partials.sums) + at * kMlaLatent + half * 256 +
                              pair * 8) = *reinterpret_cast<const uint4*>(pairs);
    if (self.warp != 0 || self.lane >= 4) return;
    partials.scales[2 * at + static_cast<std::size_t>(half)] = inverse;
    if (half == 0) partials.runs[at] = run;
  }

  const MlaPartials& partials;
  __nv_bfloat16* out;
  std::size_t partial;  // row
  int count;            // of queries
  bool whole;
};

// Half of the sums of queries [first_query, first_query + kQueries).
template <int kQueries>
__device__ void mla_fp8_store(const MlaFp8Thread& self, const MlaFp8Target& to, int first_query,
                              int half, const float2 (&runs)[kQueries / 4],
                              const float (&inverse)[kQueries / 4],
                              const float (&sums)[4][kQueries / 2]) {
#pragma unroll
  for (int i = 0; i < kQueries / 4; ++i) {
    const int at = i / 2 * 4 + i % 2;
    const float2 values[4] = {{sums[0][at], sums[0][at + 2]},
                              {sums[1][at], sums[1][at + 2]},
                              {sums[2][at], sums[2][at + 2]},
                              {sums[3][at], sums[3][at + 2]}};
    to.store(self, first_query + i / 2 * 8 + self.column + i % 2, half, runs[i], inverse[i],
             values);
  }
}

// A worker's sums as a part of their own.
template <int kQueries>
__device__ void mla_fp8_store_part(const MlaFp8Thread& self, const MlaAttentionParams& p,
                                   const MlaPiece& piece, const MlaRows& rows, int rank,
                                   const MlaFp8Softmax<kQueries>& softmax,
                                   const MlaFp8Sums<kQueries>& sums) {
  const float one = softmax.unit / kMlaFp8Weight;
  const auto first_row = static_cast<std::size_t>(
      mla_partial_row(piece, p.division, piece.index, rank) + self.worker * kMlaFp8PartRows);
#pragma unroll
  for (int i = 0; i < kQueries / 4; ++i) {
    const int r = i / 2 * 8 + self.column + i % 2;
    if (r >= rows.count) continue;
    const MlaHalfScale by = mla_fp8_half_scale(softmax.sum[i], one);
    const float factor = one * by.scale;
    const std::size_t at = first_row + static_cast<std::size_t>(r);
    auto* to = reinterpret_cast<uint4*>(static_cast<__half*>(p.partials.sums) + at * kMlaLatent) +
               self.warp * 8 + self.lane / 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      __half2 pairs[4];
#pragma unroll
      for (int b = 0; b < 4; ++b) {
        const float* own = &sums.block[half * 4 + b][i / 2 * 4 + i % 2];
        pairs[b] = __floats2half2_rn(own[0] * factor, own[2] * factor);
      }
      to[half * (256 / 8)] = *reinterpret_cast<const uint4*>(pairs);
    }
    if (self.warp != 0 || self.lane >= 4) continue;
    reinterpret_cast<float2*>(p.partials.scales)[at] = float2{by.inverse, by.inverse};
    p.partials.runs[at] = float2{softmax.reference[i], softmax.sum[i]};
  }
}

// All of a worker's sums, which are the whole of the piece's for these queries.
template <int kQueries>
__device__ void mla_fp8_store_all(const MlaFp8Tile& tile, const MlaFp8Thread& self,
                                  const MlaAttentionParams& p, const MlaPiece& piece,
                                  const MlaRows& rows, int rank, int first_query,
                                  const MlaFp8Sums<kQueries>& sums) {
  MlaFp8Runs<kQueries> runs(tile, self, self.worker);
  const MlaFp8Target to(p, piece, rows, rank);
  float inverse[kQueries / 4];
  runs.finish(to.whole, inverse);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    MlaFp8Half<kQueries> own(sums, half);
    own.scale(runs.factor[0]);
    mla_fp8_store<kQueries>(self, to, first_query, half, runs.run, inverse, own.block);
  }
}

// Both workers, each with sums over its own keys: each stores a half of the latents. What is given
// lies in the stages of the worker's last tile, which nobody reads as keys any more; `own` and
// `other`: those of the workers.
template <int kQueries>
__device__ void mla_fp8_store_joined(const MlaFp8Tile& tile, const MlaFp8Thread& self,
                                     const MlaAttentionParams& p, const MlaPiece& piece,
                                     const MlaRows& rows, int rank, const int (&own)[2],
                                     const int (&other)[2], const MlaFp8Sums<kQueries>& sums) {
  mla_fp8_worker_barrier(self.worker);
  MlaFp8Half<kQueries>(sums, 1 - self.worker).give(tile, own);
  hopper::fence_async_shared();
  mla_value_barrier();
  MlaFp8Runs<kQueries> runs(tile, self);
  const MlaFp8Target to(p, piece, rows, rank);
  float inverse[kQueries / 4];
  runs.finish(to.whole, inverse);
  MlaFp8Half<kQueries> half(sums, self.worker);
  float factors[2][kQueries / 4];
#pragma unroll
  for (int i = 0; i < kQueries / 4; ++i) {
    factors[0][i] = self.worker == 0 ? runs.factor[0][i] : runs.factor[1][i];
    factors[1][i] = self.worker == 0 ? runs.factor[1][i] : runs.factor[0][i];
  }
  half.scale(factors[0]);
  half.take(tile, other, factors[1]);
  mla_value_barrier();
  mla_fp8_store<kQueries>(self, to, 0, self.worker, runs.run, inverse, half.block);
}

}  // namespace latentd::cuda
