// The 512 + 64 attention over an fp8 cache: from the workers' sums to a piece's result.
#pragma once

#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>

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

  // Of `worker` alone.
  __device__ MlaFp8Runs(const MlaFp8Tile& tile, const MlaFp8Thread& self, int worker) {
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      run[i] = tile.runs(worker)[i / 2 * 8 + self.column + i % 2];
      factor[0][i] = tile.unit(worker);
      factor[1][i] = 0.0F;
    }
  }
  // Of both.
  __device__ MlaFp8Runs(const MlaFp8Tile& tile, const MlaFp8Thread& self) {
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
  // The result itself is divided by its sums.
  __device__ void divide() {
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const float inverse = 1.0F / run[i].y;
      factor[0][i] *= inverse;
      factor[1][i] *= inverse;
    }
  }
};

// Writes half `half` of queries [first_query, first_query + kQueries) of a unit's result, or of a
// piece's part of it.
template <int kQueries>
__device__ void mla_fp8_store(const MlaFp8Thread& self, const MlaAttentionParams& p,
                              const MlaPiece& piece, const MlaRows& rows, int rank, int first_query,
                              int half, const float2 (&runs)[kQueries / 4],
                              const float (&sums)[4][kQueries / 2]) {
  const int latent = half * 256 + self.warp * 16 + self.lane / 4 * 2;
  const auto partial =
      static_cast<std::size_t>(mla_partial_row(piece, p.division, piece.index, rank));
#pragma unroll
  for (int i = 0; i < kQueries / 4; ++i) {
    const int n = i / 2;
    const int c = i % 2;
    const int r = first_query + n * 8 + self.column + c;
    if (r >= rows.count) continue;
    if (piece.count == 1) {
      auto* out = static_cast<__nv_bfloat16*>(p.attention.out) +
                  static_cast<std::size_t>(rows.row + r) * kMlaLatent + latent;
#pragma unroll
      for (int b = 0; b < 4; ++b) {
        *reinterpret_cast<__nv_bfloat162*>(out + b * 64) =
            __floats2bfloat162_rn(sums[b][4 * n + c], sums[b][4 * n + 2 + c]);
      }
    } else {
      const std::size_t at = partial + static_cast<std::size_t>(r);
      float* out = static_cast<float*>(p.partials.sums) + at * kMlaLatent + latent;
#pragma unroll
      for (int b = 0; b < 4; ++b) {
        *reinterpret_cast<float2*>(out + b * 64) =
            float2{sums[b][4 * n + c], sums[b][4 * n + 2 + c]};
      }
      if (half == 0 && self.warp == 0 && self.lane < 4) p.partials.runs[at] = runs[i];
    }
  }
}

// All of a worker's sums, which are the whole of the piece's for these queries.
template <int kQueries>
__device__ void mla_fp8_store_all(const MlaFp8Tile& tile, const MlaFp8Thread& self,
                                  const MlaAttentionParams& p, const MlaPiece& piece,
                                  const MlaRows& rows, int rank, int first_query,
                                  const MlaFp8Sums<kQueries>& sums) {
  MlaFp8Runs<kQueries> runs(tile, self, self.worker);
  if (piece.count == 1) runs.divide();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    MlaFp8Half<kQueries> own(sums, half);
    own.scale(runs.factor[0]);
    mla_fp8_store<kQueries>(self, p, piece, rows, rank, first_query, half, runs.run, own.block);
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
  if (piece.count == 1) runs.divide();
  MlaFp8Half<kQueries> half(sums, self.worker);
  half.scale(runs.factor[self.worker]);
  half.take(tile, other, runs.factor[1 - self.worker]);
  mla_value_barrier();
  mla_fp8_store<kQueries>(self, p, piece, rows, rank, 0, self.worker, runs.run, half.block);
}

}  // namespace latentd::cuda
