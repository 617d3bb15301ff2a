// The 512 + 64 attention over an fp8 cache: from scores, whose rows are keys, to weights.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "engine/backend/cuda/kernels/mla_fp8_scores.cuh"
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

// Combines a warp's columns, of queries as a thread has them, over its keys into `out`, one value a
// query.
template <int kColumns, typename Combine>
__device__ void mla_fp8_over_keys(float (&columns)[kColumns], const MlaFp8Thread& self, float* out,
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

// The online softmax of a thread's queries, over the keys of its worker. Scores are compared with a
// reference for each query, and what is too large for it is rare: only then do the warps look for
// the highest score together, and the sums before shrink.
template <int kQueries>
struct MlaFp8Softmax {
  static constexpr int kColumns = kQueries / 4;  // 2 n, 2 n + 1 are of queries 8 n + column, + 1

  float reference[kColumns];  // in powers of two
  float sum[kColumns];        // of the exponentials of the thread's own keys
  float unit = kMlaFp8LeastScale;

  __device__ MlaFp8Softmax() {
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      reference[i] = kMlaFp8Lowest;
      sum[i] = 0.0F;
    }
  }

  // Scores of keys from first_key on that a query does not see.
  static __device__ void hide(const MlaFp8Thread& self, const int* limits, int first_key,
                              float (&scores)[kQueries / 2]) {
#pragma unroll
    for (int n = 0; n < kQueries / 8; ++n) {
      const int2 limit = *reinterpret_cast<const int2*>(limits + n * 8 + self.column);
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        const int k = first_key + self.key + 8 * row;
        if (k >= limit.x) scores[4 * n + 2 * row] = -INFINITY;
        if (k >= limit.y) scores[4 * n + 2 * row + 1] = -INFINITY;
      }
    }
  }

  // Weights of scores by what is known, and the sums of a thread's. True where one is too large.
  __device__ bool weigh(const MlaFp8Thread& self, const float* factors,
                        const float (&scores)[kQueries / 2], float (&weights)[kQueries / 2],
                        float (&sums)[kColumns]) const {
    float most = -INFINITY;
#pragma unroll
    for (int n = 0; n < kQueries / 8; ++n) {
      const float2 factor = *reinterpret_cast<const float2*>(factors + n * 8 + self.column);
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const float by = c == 0 ? factor.x : factor.y;
        const float x = fmaf(scores[4 * n + c], by, -reference[2 * n + c]);
        const float y = fmaf(scores[4 * n + 2 + c], by, -reference[2 * n + c]);
        most = fmaxf(most, fmaxf(x, y));
        weights[4 * n + c] = exp2_fast(x);
        weights[4 * n + 2 + c] = exp2_fast(y);
        sums[2 * n + c] = weights[4 * n + c] + weights[4 * n + 2 + c];
      }
    }
    return most > kMlaFp8Slack;
  }

  // All warps of the worker: new references and unit. keep: by what the sums before shrink.
  __device__ void look(const MlaFp8Tile& tile, const MlaFp8Thread& self, const float* factors,
                       int parity, float largest_scale, const float (&scores)[kQueries / 2],
                       float (&keep)[kColumns]) {
    float most[kColumns];
#pragma unroll
    for (int n = 0; n < kQueries / 8; ++n) {
      const float2 factor = *reinterpret_cast<const float2*>(factors + n * 8 + self.column);
      most[2 * n] = fmaxf(scores[4 * n], scores[4 * n + 2]) * factor.x;
      most[2 * n + 1] = fmaxf(scores[4 * n + 1], scores[4 * n + 3]) * factor.y;
    }
    mla_fp8_over_keys(most, self, tile.maxima(self.worker, parity, self.warp), Max{});
    const unsigned top = __reduce_max_sync(kAllLanes, __float_as_uint(largest_scale));
    float* tops = tile.tops(self.worker, parity);
    if (self.lane == 0) tops[self.warp] = __uint_as_float(top);
    mla_fp8_worker_barrier(self.worker);
    const float4 others = *reinterpret_cast<const float4*>(tops);
    const float before = unit;
    unit = fmaxf(unit, fmaxf(fmaxf(others.x, others.y), fmaxf(others.z, others.w)));
    const float shrink = before * inverse_power(unit);
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const int q = i / 2 * 8 + self.column + i % 2;
      float now = kMlaFp8Lowest;
#pragma unroll
      for (int w = 0; w < MlaFp8Tile::kWorkerWarps; ++w) {
        now = fmaxf(now, tile.maxima(self.worker, parity, w)[q]);
      }
      // What is a query's does not depend on the others.
      if (!(now > reference[i] + kMlaFp8Slack)) now = reference[i];
      const float kept = exp2_fast(reference[i] - now);
      reference[i] = now;
      keep[i] = kept * shrink;
      sum[i] *= kept;
    }
  }
};

// A worker's weights times the scales of each group, in units of the largest scale so far, into
// shared memory. `to`: of the thread.
template <int kQueries>
__device__ void mla_fp8_store_weights(std::uint32_t to, float unit, const MlaFp8Scales& scales,
                                      const float (&weights)[kQueries / 2]) {
  const float inverse = inverse_power(unit) * kMlaFp8Weight;
#pragma unroll
  for (int g = 0; g < MlaFp8Tile::kScaleGroups; ++g) {
    const float in_units[2] = {scales.of[0][g] * inverse, scales.of[1][g] * inverse};
#pragma unroll
    for (int n = 0; n < kQueries / 8; n += 2) {
      std::uint32_t m[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = 4 * (n + i / 2) + i % 2 * 2;
        const __half2 pair =
            __floats2half2_rn(weights[at] * in_units[i % 2], weights[at + 1] * in_units[i % 2]);
        m[i] = *reinterpret_cast<const std::uint32_t*>(&pair);
      }
      hopper::store_transposed(
          to + static_cast<std::uint32_t>(g * kQueries * 128 + n * MlaFp8Tile::kAtomBytes), m);
    }
  }
}

}  // namespace latentd::cuda
