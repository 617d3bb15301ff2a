// The 512 + 64 attention over an fp8 cache: pieces of more queries than a worker takes by itself.
//
// The workers go through the tiles in pairs. Each scores one of them, hands its weights over in
// shared memory, and adds the values of both to its half of the latents. References are common.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "engine/backend/cuda/kernels/mla_fp8_queries.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_result.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_scale.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_scores.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_softmax.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_tile.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_values.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_worker.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

struct MlaFp8Wide {
  static constexpr int kQueries = kMlaTileRows;
  static constexpr int kColumns = kQueries / 4;
  static constexpr int kBlocks = kMlaLatent / 64 / MlaFp8Tile::kWorkers;  // of a worker
  using QueryOperand = hopper::OperandDescriptors<MlaFp8Tile::kQueryGroupBytes>;
  using WeightOperand = hopper::OperandDescriptors<MlaFp8Tile::kAtomBytes>;
};

// scores^T [64 keys, queries] = K Q^T / R. `stage`: that of the warp's keys.
template <int kCopiedKeys>
__device__ void mla_fp8_wide_scores(const MlaFp8Tile& tile, const MlaFp8Thread& self,
                                    const MlaFp8KeyRows<kCopiedKeys>& rows, int stage,
                                    const MlaFp8Wide::QueryOperand& queries, float (&scores)[32]) {
  using namespace hopper;
  using Tile = MlaFp8Tile;
  constexpr int kSteps = kMlaLatent / 32;  // of two products
  const std::uint32_t codes = tile.codes<kCopiedKeys>(stage) + rows.codes;
  const std::uint32_t rope = tile.rope<kCopiedKeys>(stage) + rows.rope;
  const int key = self.key % Tile::kStageKeys;
  const std::uint16_t* ratios = tile.ratios(stage) + key;
  std::uint32_t a[2][8];
  std::uint32_t raw[4];
  std::uint32_t ratio[2];
  const auto load = [&](int step) {
    load_matrices(raw, codes +
                           static_cast<std::uint32_t>(Tile::code_offset<kCopiedKeys>(0, step / 4)) +
                           (rows.swizzle ^ static_cast<std::uint32_t>(step % 4 * 32)));
  };
  {
    const std::uint32_t inverse[2] = {
        (__float_as_uint(inverse_power(tile.largest(stage)[key])) >> 16) * 0x10001U,
        (__float_as_uint(inverse_power(tile.largest(stage)[key + 8])) >> 16) * 0x10001U};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        std::uint32_t m[4];
        load_matrices(m, rope + (rows.swizzle ^ static_cast<std::uint32_t>((half * 2 + i) * 32)));
#pragma unroll
        for (int j = 0; j < 4; ++j) a[half][i * 4 + j] = multiply_bf16_pairs(m[j], inverse[j % 2]);
      }
      wgmma_fence();
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        multiply_bf16(scores, a[half] + 4 * i,
                      queries.at(kMlaLatent / 64 * Tile::kAtomBytes + (half * 2 + i) * 32),
                      half + i > 0);
      }
      wgmma_commit();
    }
  }
  load(0);
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    if (step % 4 == 0) {
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        ratio[row] = ratios[step / 4 * Tile::kStageKeys + row * 8] * 0x10001U;
      }
    }
    wgmma_wait<1>();
    std::uint32_t(&to)[8] = a[step % 2];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = i / 2 * 4 + i % 2;
      to[at] = multiply_halves(widen_low(raw[i]), ratio[i % 2]);
      to[at + 2] = multiply_halves(widen_high(raw[i]), ratio[i % 2]);
    }
    if (step + 1 < kSteps) load(step + 1);
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int latent = step * 32 + i * 16;
      multiply_f16(scores, to + 4 * i, queries.at(latent / 64 * Tile::kAtomBytes + latent % 64 * 2),
                   true);
    }
    wgmma_commit();
  }
  wgmma_wait<0>();
  wgmma_results(scores);
}

// Whether a score is too large for its reference.
__device__ inline bool mla_fp8_wide_exceeds(const MlaFp8Tile& tile, const MlaFp8Thread& self,
                                            const float (&scores)[32]) {
  float most = -INFINITY;
#pragma unroll
  for (int n = 0; n < MlaFp8Wide::kQueries / 8; ++n) {
    const int q = n * 8 + self.column;
    const float2 factor = *reinterpret_cast<const float2*>(tile.factors() + q);
    const float2 reference = *reinterpret_cast<const float2*>(tile.references() + q);
    most = fmaxf(most, fmaf(fmaxf(scores[4 * n], scores[4 * n + 2]), factor.x, -reference.x));
    most = fmaxf(most, fmaf(fmaxf(scores[4 * n + 1], scores[4 * n + 3]), factor.y, -reference.y));
  }
  return most > kMlaFp8Slack;
}

// Weights of scores by the references, in units, into shared memory, and into the thread's sums.
__device__ inline void mla_fp8_wide_weigh(const MlaFp8Tile& tile, const MlaFp8Thread& self,
                                          std::uint32_t to, const float (&in_units)[2],
                                          const float (&scores)[32], float (&sums)[16]) {
#pragma unroll
  for (int n = 0; n < MlaFp8Wide::kQueries / 8; n += 2) {
    std::uint32_t m[4];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int q = (n + i) * 8 + self.column;
      const float2 factor = *reinterpret_cast<const float2*>(tile.factors() + q);
      const float2 reference = *reinterpret_cast<const float2*>(tile.references() + q);
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        const int at = 4 * (n + i) + 2 * row;
        const float x = exp2_fast(fmaf(scores[at], factor.x, -reference.x));
        const float y = exp2_fast(fmaf(scores[at + 1], factor.y, -reference.y));
        sums[2 * (n + i)] += x;
        sums[2 * (n + i) + 1] += y;
        const __half2 pair = __floats2half2_rn(x * in_units[row], y * in_units[row]);
        m[2 * i + row] = *reinterpret_cast<const std::uint32_t*>(&pair);
      }
    }
    hopper::store_transposed(to + static_cast<std::uint32_t>(n * MlaFp8Tile::kAtomBytes), m);
  }
}

// Both workers: new references and unit; `scores` of those that have a tile. By `keep` the sums
// before shrink.
__device__ inline void mla_fp8_wide_look(const MlaFp8Tile& tile, const MlaFp8Thread& self,
                                         bool has_tile, float largest_scale, float& unit,
                                         const float (&scores)[32], float (&keep)[16]) {
  float most[16];
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    const int at = i / 2 * 4 + i % 2;
    most[i] = has_tile ? fmaxf(scores[at], scores[at + 2]) *
                             tile.factors()[i / 2 * 8 + self.column + i % 2]
                       : -INFINITY;
  }
  const int warp = self.worker * MlaFp8Tile::kWorkerWarps + self.warp;
  mla_fp8_over_keys(most, self, tile.wide_maxima(warp), Max{});
  if (self.lane == 0) tile.tops(0, 0)[warp] = largest_scale;
  mla_value_barrier();
  const float before = unit;
#pragma unroll
  for (int w = 0; w < 2 * MlaFp8Tile::kWorkerWarps; ++w) unit = fmaxf(unit, tile.tops(0, 0)[w]);
  const float shrink = before * inverse_power(unit);
  float now[16];
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    const int q = i / 2 * 8 + self.column + i % 2;
    const float reference = tile.references()[q];
    now[i] = kMlaFp8Lowest;
#pragma unroll
    for (int w = 0; w < 2 * MlaFp8Tile::kWorkerWarps; ++w) {
      now[i] = fmaxf(now[i], tile.wide_maxima(w)[q]);
    }
    // What is a query's does not depend on the others.
    if (!(now[i] > reference + kMlaFp8Slack)) now[i] = reference;
    keep[i] = exp2_fast(reference - now[i]);
  }
  mla_value_barrier();
  if (self.worker == 0 && self.warp == 0 && self.lane < 4) {
#pragma unroll
    for (int i = 0; i < 16; ++i) tile.references()[i / 2 * 8 + self.column + i % 2] = now[i];
  }
#pragma unroll
  for (int i = 0; i < 16; ++i) keep[i] *= shrink;
  mla_value_barrier();
}

// A worker's sums^T [4][64 latents, 64 queries] of values.
template <int kCopiedKeys>
struct MlaFp8WideValues {
  float block[MlaFp8Wide::kBlocks][32];
  std::uint32_t raw[2][4];
  std::uint32_t a[2][16];

  // A block of 64 latents of a tile: its codes, and from there an operand.
  __device__ void load(const MlaFp8Tile& tile, const MlaFp8Thread& self,
                       const MlaFp8LatentRows<kCopiedKeys>& rows, const MlaFp8Place& place, int b) {
    const auto offset =
        static_cast<std::uint32_t>(MlaFp8Tile::code_offset<kCopiedKeys>(0, b / 2)) +
        static_cast<std::uint32_t>(self.worker * MlaFp8Tile::code_offset<kCopiedKeys>(0, 2)) +
        (b % 2 == 0 ? rows.even : rows.odd);
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      hopper::load_transposed(raw[s], tile.codes<kCopiedKeys>(place.stages[s]) + offset);
    }
  }
  __device__ void widen(const MlaFp8Tile& tile, const MlaFp8Thread& self, const MlaFp8Place& place,
                        int b, std::uint32_t* to) {
    const int group = self.worker * 2 + b / 2;
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      mla_fp8_widen(raw[s], to + s * 8);
      const auto* ratios = reinterpret_cast<const std::uint32_t*>(tile.ratios(place.stages[s]) +
                                                                  group * MlaFp8Tile::kStageKeys) +
                           self.lane % 4;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        to[s * 8 + i] = multiply_halves(to[s * 8 + i], ratios[i / 2 * 4]);
      }
    }
  }
  __device__ void settle() {
#pragma unroll
    for (int b = 0; b < MlaFp8Wide::kBlocks; ++b) hopper::wgmma_results(block[b]);
  }
  // Adds kTiles of a pair. `release(i)`: the keys of tile i are needed no more.
  template <int kTiles, typename Release>
  __device__ void add(const MlaFp8Tile& tile, const MlaFp8Thread& self,
                      const MlaFp8LatentRows<kCopiedKeys>& rows, const MlaFp8Place (&places)[2],
                      const MlaFp8Wide::WeightOperand& weights, const Release& release) {
    using namespace hopper;
    constexpr int kBlocks = MlaFp8Wide::kBlocks;
    constexpr int kSteps = kTiles * kBlocks;
    load(tile, self, rows, places[0], 0);
    widen(tile, self, places[0], 0, a[0]);
    settle();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int next = step + 1;
      if (next < kSteps) load(tile, self, rows, places[next / kBlocks], next % kBlocks);
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        multiply_f16(
            block[step % kBlocks], a[step % 2] + k * 4,
            weights.at(static_cast<std::uint32_t>(step / kBlocks * kMlaTileRows * 128 + k * 32)),
            true);
      }
      wgmma_commit();
      if (next == kSteps) continue;
      if (step > 0) wgmma_wait<1>();
      widen(tile, self, places[next / kBlocks], next % kBlocks, a[next % 2]);
      if (next % kBlocks == kBlocks - 1) release(next / kBlocks);
    }
    wgmma_wait<0>();
    settle();
  }
};

// One of two workers: a piece of 33 to 64 queries.
template <int kCopiedKeys>
__device__ void mla_fp8_wide_piece(const MlaFp8Tile& tile, const MlaAttentionParams& p,
                                   const MlaPiece& piece, const MlaRows& rows, int worker, int rank,
                                   MlaFp8Progress& done) {
  using namespace hopper;
  const MlaFp8Thread self(worker);
  mla_fp8_begin_piece<kMlaTileRows, true>(tile, p, piece, rows, done.queries);
  MlaFp8Wide::QueryOperand queries(
      tile.address + static_cast<std::uint32_t>(MlaFp8Tile::kQueries<kMlaTileRows, true>));
  MlaFp8Wide::WeightOperand weights(tile.address +
                                    static_cast<std::uint32_t>(MlaFp8Tile::kWeights));
  const MlaFp8KeyRows<kCopiedKeys> key_rows(self);
  const MlaFp8LatentRows<kCopiedKeys> latent_rows(self);
  const std::uint32_t weights_to =
      tile.address +
      static_cast<std::uint32_t>(MlaFp8Tile::kWeights + self.worker * kMlaTileRows * 128) +
      mla_fp8_weights_offset(self);
  const int least = tile.limits()[0];  // keys that all of the queries see
  MlaFp8WideValues<kCopiedKeys> values;
#pragma unroll
  for (int i = 0; i < MlaFp8Wide::kBlocks * 32; ++i) values.block[i / 32][i % 32] = 0.0F;
  float sum[16] = {};
  float unit = kMlaFp8LeastScale;
  const int tiles = piece.last_tile - piece.first_tile;
  MlaFp8Cursor at = done.at;
  for (int t = 0; t < tiles; t += 2) {
    queries.forget();
    weights.forget();
    MlaFp8Place places[2] = {MlaFp8Place(tile, at), MlaFp8Place(tile, at)};
    at.advance(tile, 2);
    const bool both = t + 1 < tiles;
    if (both) {
      places[1] = MlaFp8Place(tile, at);
      at.advance(tile, 2);
    }
    const bool has_tile = both || self.worker == 0;
    const MlaFp8Place own = self.worker == 0 ? places[0] : places[1];
    const int stage = self.warp < 2 ? own.stages[0] : own.stages[1];
    const int number = done.tiles++;
    float scores[32];
    float largest[2] = {};
    float largest_scale = 0.0F;
    if (has_tile) {
      own.wait_scaled(tile);
      mla_fp8_wide_scores<kCopiedKeys>(tile, self, key_rows, stage, queries, scores);
      const int key = self.key % MlaFp8Tile::kStageKeys;
      largest[0] = tile.largest(stage)[key];
      largest[1] = tile.largest(stage)[key + 8];
      largest_scale = fmaxf(tile.stage_largest(own.stages[0]), tile.stage_largest(own.stages[1]));
#pragma unroll
      for (int i = 0; i < 32; ++i) scores[i] *= largest[i / 2 % 2];
      const int first_key = (piece.first_tile + t + self.worker) * kMlaTileKeys;
      if (first_key + kMlaTileKeys > least) {
        MlaFp8Softmax<MlaFp8Wide::kQueries>::hide(self, tile.limits(), first_key, scores);
      }
      const bool exceeds = largest_scale > unit || mla_fp8_wide_exceeds(tile, self, scores);
      if (__any_sync(kAllLanes, exceeds) && self.lane == 0) {
        tile.exceeded(0, number % 2) = number;
      }
    }
    mla_value_barrier();  // nobody reads the weights before
    if (tile.exceeded(0, number % 2) == number) {
      float keep[16];
      const float before = unit;
      mla_fp8_wide_look(tile, self, has_tile, largest_scale, unit, scores, keep);
      const float grown = unit * inverse_power(before);
#pragma unroll
      for (int i = 0; i < 16; ++i) sum[i] *= keep[i] * grown;
#pragma unroll
      for (int i = 0; i < MlaFp8Wide::kBlocks * 32; ++i) {
        values.block[i / 32][i % 32] *= keep[i % 32 / 4 * 2 + i % 2];
      }
    }
    if (has_tile) {
      const float inverse = inverse_power(unit) * kMlaFp8Weight;
      const float in_units[2] = {largest[0] * inverse, largest[1] * inverse};
      mla_fp8_wide_weigh(tile, self, weights_to, in_units, scores, sum);
      fence_async_shared();
    }
    mla_value_barrier();
    places[0].wait_scaled(tile);
    if (both) places[1].wait_scaled(tile);
    const auto release = [&](int i) { places[i].template release<1>(tile, self.lane); };
    if (both) {
      values.template add<2>(tile, self, latent_rows, places, weights, release);
    } else {
      values.template add<1>(tile, self, latent_rows, places, weights, release);
    }
  }
  mla_fp8_end_queries(tile, self);
  done.at = at;
  const int warp = self.worker * MlaFp8Tile::kWorkerWarps + self.warp;
  mla_fp8_over_keys(sum, self, tile.wide_maxima(warp), Sum{});
  mla_value_barrier();
  const float one = unit / kMlaFp8Weight;
  const MlaFp8Target to(p, piece, rows, rank);
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    const int q = i / 2 * 8 + self.column + i % 2;
    float total = 0.0F;
#pragma unroll
    for (int w = 0; w < 2 * MlaFp8Tile::kWorkerWarps; ++w) total += tile.wide_maxima(w)[q];
    const MlaHalfScale by = mla_fp8_half_scale(total, one);
    const float factor = one * (to.whole ? 1.0F / total : by.scale);
    float2 own[4];
#pragma unroll
    for (int b = 0; b < 4; ++b) {
      const float* sums = &values.block[b][i / 2 * 4 + i % 2];
      own[b] = {sums[0] * factor, sums[2] * factor};
    }
    to.store(self, q, self.worker, {tile.references()[q], total}, by.inverse, own);
  }
}

}  // namespace latentd::cuda
