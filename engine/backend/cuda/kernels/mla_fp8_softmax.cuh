// The 512 + 64 attention over an fp8 cache: from scores, whose rows are keys, to weights.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "engine/backend/cuda/kernels/mla_fp8_queries.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_tile.cuh"
#include "engine/backend/cuda/kernels/register_products.cuh"

namespace latentd::cuda {

// Combines kCount columns that a lane has with those of the lane whose number differs in kBit: of
// more than one, each of the two keeps half, the upper lane the upper half.
template <int kBit, int kCount, typename Combine>
__device__ void mla_fp8_fold(float* columns, int lane, const Combine& combine) {
  if constexpr (kCount == 1) {
    columns[0] = combine(columns[0], __shfl_xor_sync(kAllLanes, columns[0], kBit));
  } else {
    const bool upper = (lane & kBit) != 0;
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i) {
      const float given = upper ? columns[i] : columns[i + kCount / 2];
      const float kept = upper ? columns[i + kCount / 2] : columns[i];
      columns[i] = combine(kept, __shfl_xor_sync(kAllLanes, given, kBit));
    }
  }
}

// Combines a warp's columns, of queries as a scorer has them, over its keys into `out`, one value a
// query.
template <int kColumns, typename Combine>
__device__ void mla_fp8_over_keys(float (&columns)[kColumns], const MlaFp8Scorer& self, float* out,
                                  const Combine& combine) {
  mla_fp8_fold<16, kColumns>(columns, self.lane, combine);
  mla_fp8_fold<8, kColumns / 2>(columns, self.lane, combine);
  mla_fp8_fold<4, kColumns / 4>(columns, self.lane, combine);
  if constexpr (kColumns == 16) {
    *reinterpret_cast<float2*>(out + self.lane / 4 * 8 + self.column) =
        float2{columns[0], columns[1]};
  } else {
    const int column = self.lane / 4 * kColumns / 8;
    out[column / 2 * 8 + column % 2 + self.column] = columns[0];
  }
}

// The online softmax of a thread's queries, over the keys of all threads.
template <int kQueries>
struct MlaFp8Softmax {
  static constexpr int kColumns = kQueries / 4;  // 2 n, 2 n + 1 are of queries 8 n + column, + 1

  float sum[kColumns] = {};  // of the exponentials of the thread's own keys
  float unit = kMlaFp8LeastScale;

  // Products become weights in units. `number`: of the tile in its piece; `tiles`: before it.
  __device__ void step(const MlaFp8Tile& tile, const MlaFp8Scorer& self, int number, int tiles,
                       int first_key, int first_stage, int second_stage,
                       float (&scores)[kQueries / 2]) {
    const int stage = self.warp < 2 ? first_stage : second_stage;
    const int key = self.key % MlaFp8Tile::kStageKeys;
    const float largest[2] = {tile.largest(stage)[key], tile.largest(stage)[key + 8]};
    const bool all = first_key + kMlaTileKeys <= tile.limits()[0];  // the least
    const int parity = number % 2;
    float most[kColumns];
#pragma unroll
    for (int n = 0; n < kQueries / 8; ++n) {
      const float2 factor = *reinterpret_cast<const float2*>(tile.factors() + n * 8 + self.column);
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        scores[4 * n + 2 * row] *= largest[row] * factor.x;
        scores[4 * n + 2 * row + 1] *= largest[row] * factor.y;
      }
      if (!all) {
        const int2 limit = *reinterpret_cast<const int2*>(tile.limits() + n * 8 + self.column);
#pragma unroll
        for (int row = 0; row < 2; ++row) {
          const int k = first_key + self.key + 8 * row;
          if (k >= limit.x) scores[4 * n + 2 * row] = -INFINITY;
          if (k >= limit.y) scores[4 * n + 2 * row + 1] = -INFINITY;
        }
      }
      most[2 * n] = fmaxf(scores[4 * n], scores[4 * n + 2]);
      most[2 * n + 1] = fmaxf(scores[4 * n + 1], scores[4 * n + 3]);
    }
    mla_fp8_over_keys(most, self, tile.maxima(parity, self.warp), Max{});
    mla_fp8_score_barrier();
    const float before = unit;
    unit = fmaxf(unit, fmaxf(tile.stage_largest(first_stage), tile.stage_largest(second_stage)));
    const float shrink = before * inverse_power(unit);
    const float in_units[2] = {largest[0] * inverse_power(unit) * kMlaFp8Weight,
                               largest[1] * inverse_power(unit) * kMlaFp8Weight};
    bool shrinks = shrink != 1.0F;
#pragma unroll
    for (int n = 0; n < kQueries / 8; ++n) {
      const int q = n * 8 + self.column;
      const float2 old = *reinterpret_cast<const float2*>(tile.highest(parity) + q);
      float2 now = old;
#pragma unroll
      for (int w = 0; w < MlaFp8Tile::kScoreWarps; ++w) {
        const float2 other = *reinterpret_cast<const float2*>(tile.maxima(parity, w) + q);
        now.x = fmaxf(now.x, other.x);
        now.y = fmaxf(now.y, other.y);
      }
      shrinks = shrinks || now.x != old.x || now.y != old.y;
      // A query that has seen nothing yet: every weight is 2^(-inf - 0).
      const float offset[2] = {now.x == -INFINITY ? 0.0F : now.x,
                               now.y == -INFINITY ? 0.0F : now.y};
      const float keep[2] = {exp2_fast(old.x - offset[0]), exp2_fast(old.y - offset[1])};
      if (self.warp == 0 && self.lane < 4) {
        *reinterpret_cast<float2*>(tile.highest(parity ^ 1) + q) = now;
        *reinterpret_cast<float2*>(tile.keep(tiles) + q) =
            float2{keep[0] * shrink, keep[1] * shrink};
      }
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        sum[2 * n + c] *= keep[c];
#pragma unroll
        for (int row = 0; row < 2; ++row) {
          float& score = scores[4 * n + 2 * row + c];
          const float weight = exp2_fast(score - offset[c]);
          sum[2 * n + c] += weight;
          score = weight * in_units[row];
        }
      }
    }
    shrinks = __any_sync(kAllLanes, shrinks);
    if (self.warp == 0 && self.lane == 0) tile.shrinks(tiles) = shrinks ? 1 : 0;
  }

  // After the last step: what the piece's values are divided by.
  __device__ void finish(const MlaFp8Tile& tile, const MlaFp8Scorer& self, int number, int piece) {
    mla_fp8_over_keys(sum, self, tile.sums(self.warp), Sum{});
    mla_fp8_score_barrier();
    const int q = self.warp * kWarp + self.lane;
    if (q < kQueries) {
      tile.runs(piece)[q] = {tile.highest(number % 2 ^ 1)[q],
                             tile.sums(0)[q] + tile.sums(1)[q] + tile.sums(2)[q] + tile.sums(3)[q]};
    }
    if (q == 0) tile.unit(piece) = unit / kMlaFp8Weight;
  }
};

// Weights into shared memory.
template <int kQueries>
__device__ void mla_fp8_store_weights(const MlaFp8Tile& tile, const MlaFp8Scorer& self,
                                      const float (&weights)[kQueries / 2]) {
  const int row = self.lane % 8;
  const int matrix = self.lane / 8;  // the warp's keys 0..7, 8..15, and the same 8 queries further
  const std::uint32_t to =
      tile.weights() + static_cast<std::uint32_t>(matrix / 2 * MlaFp8Tile::kAtomBytes + row * 128 +
                                                  ((self.warp * 2 + matrix % 2) ^ row) * 16);
#pragma unroll
  for (int n = 0; n < kQueries / 8; n += 2) {
    std::uint32_t m[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = 4 * (n + i / 2) + i % 2 * 2;
      const __half2 pair = __floats2half2_rn(weights[at], weights[at + 1]);
      m[i] = *reinterpret_cast<const std::uint32_t*>(&pair);
    }
    hopper::store_transposed(to + static_cast<std::uint32_t>(n * MlaFp8Tile::kAtomBytes), m);
  }
}

}  // namespace latentd::cuda
