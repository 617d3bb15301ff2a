// The 512 + 64 attention over an fp8 cache: a warpgroup that scores keys and adds their values.
#pragma once

#include <cstdint>

#include "engine/backend/cuda/kernels/mla_fp8_queries.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_result.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_scores.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_softmax.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_tile.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_values.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

// The stages of a tile.
struct MlaFp8Place {
  __device__ MlaFp8Place(const MlaFp8Tile& tile, MlaFp8Cursor at) {
    for (int i = 0; i < 2; ++i, at.advance(tile)) {
      stages[i] = at.stage;
      parities[i] = at.parity;
    }
  }
  // First until the stages are empty of their turns before, which may be the other worker's: while
  // those keys are still to come, the parity of `full` reads as if this turn's were there.
  __device__ void wait(const MlaFp8Tile& tile) const {
    hopper::barrier_wait(tile.empty(stages[0]), parities[0] ^ 1U);
    hopper::barrier_wait(tile.empty(stages[1]), parities[1] ^ 1U);
    hopper::barrier_wait(tile.full(stages[0]), parities[0]);
    hopper::barrier_wait(tile.full(stages[1]), parities[1]);
  }
  // A warp of the worker needs them no more.
  __device__ void release(const MlaFp8Tile& tile, int lane) const {
    __syncwarp();
    if (lane >= 2) return;
    hopper::barrier_arrive(tile.empty(lane == 0 ? stages[0] : stages[1]));
  }
  int stages[2];
  std::uint32_t parities[2];
};

// Codes and scales of keys from `keys` on in a tile become zeros: what lies there may be NaN, which
// a weight of zero does not take away. One worker.
template <int kCopiedKeys>
__device__ void mla_fp8_clear_keys(const MlaFp8Tile& tile, int warp, int lane, int first_stage,
                                   int second_stage, int keys) {
  static_assert(kMlaLatent / 16 == kWarp);
#pragma unroll 1
  for (int key = keys + warp; key < kMlaTileKeys; key += MlaFp8Tile::kWorkerWarps) {
    const int stage = key < MlaFp8Tile::kStageKeys ? first_stage : second_stage;
    const int own = key % MlaFp8Tile::kStageKeys;
    *reinterpret_cast<uint4*>(tile.stage(0) + MlaFp8Tile::codes_offset<kCopiedKeys>(stage) +
                              MlaFp8Tile::code_offset<kCopiedKeys>(own, lane / 8) + lane % 8 * 16) =
        uint4{0, 0, 0, 0};
    if (lane == 0) {
      tile.at<float4>(MlaFp8Tile::kScales)[stage * MlaFp8Tile::kStageKeys + own] =
          float4{0.0F, 0.0F, 0.0F, 0.0F};
    }
  }
  hopper::fence_async_shared();
}

// The stage `count` before.
__device__ inline int mla_fp8_stage_before(const MlaFp8Tile& tile, const MlaFp8Cursor& at,
                                           int count) {
  const int stage = at.stage - count;
  return stage < 0 ? stage + tile.stages : stage;
}

// Where a thread stores weights, of a group's.
__device__ inline std::uint32_t mla_fp8_weights_offset(const MlaFp8Thread& self) {
  const int row = self.lane % 8;
  const int matrix = self.lane / 8;  // the warp's keys 0..7, 8..15, and the same 8 queries further
  return static_cast<std::uint32_t>(matrix / 2 * MlaFp8Tile::kAtomBytes + row * 128 +
                                    ((self.warp * 2 + matrix % 2) ^ row) * 16);
}

// A worker's way through the tiles of all pieces.
struct MlaFp8Progress {
  MlaFp8Cursor at;            // the first stage of the next piece
  int tiles = 1;              // that the worker has scored, and one
  std::uint32_t queries = 0;  // the turn of the queries of the next piece
  std::uint32_t launch = 0;   // of the plan's
};

// One of two workers: at most kQueries query vectors of a piece, whose tiles they take in turns.
// partial_row: of the vectors' partial results. more: it is not the last that the CTA does.
template <int kCopiedKeys, int kQueries>
__device__ void mla_fp8_work_piece(const MlaFp8Tile& tile, const MlaAttentionParams& p,
                                   const MlaPiece& piece, const MlaRows& rows, int partial_row,
                                   bool more, int worker, MlaFp8Progress& done) {
  using namespace hopper;
  const MlaFp8Thread self(worker);
  OperandDescriptors<MlaFp8Tile::kQueryGroupBytes> queries(
      tile.address + static_cast<std::uint32_t>(MlaFp8Tile::kQueries<kQueries>));
  OperandDescriptors<MlaFp8Tile::kAtomBytes> weights(tile.weights<kQueries>(self.worker, 0));
  const MlaFp8KeyRows<kCopiedKeys> key_rows(self);
  const MlaFp8LatentRows<kCopiedKeys> latent_rows(self);
  const std::uint32_t weights_to =
      tile.weights<kQueries>(self.worker, 0) + mla_fp8_weights_offset(self);
  const float* factors = tile.factors();
  const int* limits = tile.limits();
  MlaFp8Sums<kQueries> sums;
  sums.clear();
  MlaFp8Softmax<kQueries> softmax;
  const int tiles = piece.last_tile - piece.first_tile;
  MlaFp8Cursor at = done.at;
  if (self.worker == 1) at.advance(tile, 2);
  int first_key = (piece.first_tile + self.worker) * kMlaTileKeys;
  int left = (tiles + 1 - self.worker) / 2;  // of the worker
  mla_fp8_begin_piece<kQueries>(tile, p, piece, rows, done.queries);
  const int least = limits[0];  // keys that all of the queries see
  bool fresh = true;            // nothing is known of the scores
  for (; left > 0; --left, first_key += 2 * kMlaTileKeys, at.advance(tile, 4)) {
    queries.forget();
    weights.forget();
    const MlaFp8Place place(tile, at);
    place.wait(tile);
    const int keys = piece.keys.context - first_key;
    if (keys < kMlaTileKeys) {
      mla_fp8_clear_keys<kCopiedKeys>(tile, self.warp, self.lane, place.stages[0], place.stages[1],
                                      keys);
      mla_fp8_worker_barrier(self.worker);
    }
    const int stage = self.warp < 2 ? place.stages[0] : place.stages[1];
    float scores[kQueries / 2];
    mla_fp8_score_keys<kCopiedKeys, kQueries>(tile, self, key_rows, stage, queries, scores);
    MlaFp8Values<kCopiedKeys, kQueries> values(latent_rows,
                                               tile.codes<kCopiedKeys>(place.stages[0]),
                                               tile.codes<kCopiedKeys>(place.stages[1]));
    values.load(0);
    values.widen(0);
    if (first_key + kMlaTileKeys > least) softmax.hide(self, limits, first_key, scores);
    const int number = done.tiles++;
    {
      const MlaFp8Scales scales(tile, self, stage);
      float weighed[kQueries / 2];
      float added[kQueries / 4];
      bool exceeds = fresh;
      if (!fresh) {
        exceeds = softmax.weigh(self, factors, scores, weighed, added);
        exceeds = exceeds || scales.largest() > softmax.unit;
        if (__any_sync(kAllLanes, exceeds) && self.lane == 0) {
          tile.exceeded(self.worker, number % 2) = number;
        }
        mla_fp8_store_weights<kQueries>(weights_to, softmax.unit, scales, weighed);
        fence_async_shared();
        mla_fp8_worker_barrier(self.worker);
        exceeds = tile.exceeded(self.worker, number % 2) == number;
      }
      fresh = false;
      if (exceeds) {
        float keep[kQueries / 4];
        softmax.look(tile, self, factors, number % 2, scales.largest(), scores, keep);
        sums.shrink(keep);
        softmax.weigh(self, factors, scores, weighed, added);
        mla_fp8_store_weights<kQueries>(weights_to, softmax.unit, scales, weighed);
        fence_async_shared();
        mla_fp8_worker_barrier(self.worker);
      }
#pragma unroll
      for (int i = 0; i < kQueries / 4; ++i) softmax.sum[i] += added[i];
    }
    values.add(weights, sums, [&] {
      // Those of its last tile serve the worker once more.
      if (left > 1) place.release(tile, self.lane);
    });
  }
  mla_fp8_end_queries(tile, self);
  // The other worker's last tile lies before or behind the worker's own.
  at = done.at;
  at.skip(tile, 2 * tiles);
  done.at = at;
  mla_fp8_tell(tile, self, softmax);
  mla_fp8_worker_barrier(self.worker);
  const bool alone = tiles == 1;
  const bool last = (tiles - 1) % 2 == self.worker;
  const int own = last ? 2 : 4;  // stages before the end
  const int ends[2][2] = {
      {mla_fp8_stage_before(tile, at, own), mla_fp8_stage_before(tile, at, own - 1)},
      {mla_fp8_stage_before(tile, at, 6 - own), mla_fp8_stage_before(tile, at, 5 - own)}};
  mla_fp8_store<kQueries>(tile, self, p, piece.count == 1, partial_row, rows, alone, ends[0],
                          ends[1], done.launch, sums);
  if (!more) return;
  fence_async_shared();
  mla_value_barrier();
  if (self.lane < 2 && !(alone && self.worker == 1)) {
    barrier_arrive(tile.empty(self.lane == 0 ? ends[0][0] : ends[0][1]));
  }
}

}  // namespace latentd::cuda
