// The 512 + 64 attention over an fp8 cache: what the scales mean for codes, scores and weights
// where a piece has more queries than a worker takes.
//
// A key's codes are multiplied by the ratio of their group's scale to the largest of the key, R, at
// most one and nearly always exact; scores are then multiplied by R, and so are weights.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "engine/backend/cuda/kernels/hopper.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_tile.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

// A stage's scales, a key a lane; `keys` of them are to be seen, and nothing is left of the others.
template <int kCopiedKeys>
__device__ void mla_fp8_scale_stage(const MlaFp8Tile& tile, int stage, int keys, int lane) {
  float4 own = {0.0F, 0.0F, 0.0F, 0.0F};
  float largest = 0.0F;
  float inverse = 0.0F;
  if (lane < keys) {
    own = tile.scales_of(stage, lane);
    // A scale of NaN stays in its ratio.
    largest = fmaxf(fmaxf(fmaxf(own.x, own.y), fmaxf(own.z, own.w)), kMlaFp8LeastScale);
    inverse = inverse_power(largest);
  }
  const float scales[MlaFp8Tile::kScaleGroups] = {own.x, own.y, own.z, own.w};
#pragma unroll
  for (int g = 0; g < MlaFp8Tile::kScaleGroups; ++g) {
    tile.ratios(stage)[g * MlaFp8Tile::kStageKeys + lane] =
        __half_as_ushort(__float2half_rn(scales[g] * inverse));
  }
  tile.largest(stage)[lane] = largest;
  const unsigned most = __reduce_max_sync(kAllLanes, __float_as_uint(largest));
  if (lane == 0) tile.stage_largest(stage) = __uint_as_float(most);
  if (keys >= MlaFp8Tile::kStageKeys) return;
  static_assert(kMlaLatent / 16 == kWarp);
  for (int key = keys; key < MlaFp8Tile::kStageKeys; ++key) {
    *reinterpret_cast<uint4*>(tile.stage(0) + MlaFp8Tile::codes_offset<kCopiedKeys>(stage) +
                              MlaFp8Tile::code_offset<kCopiedKeys>(key, lane / 8) + lane % 8 * 16) =
        uint4{0, 0, 0, 0};
  }
  hopper::fence_async_shared();
}

// One warp: every stage.
template <int kCopiedKeys>
__device__ void mla_fp8_scale(const MlaFp8Tile& tile, const MlaAttentionParams& p,
                              MlaPieces& pieces, int rank) {
  using namespace hopper;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  MlaFp8Cursor at;
  for (; pieces.more(); pieces.next()) {
    const MlaPiece& piece = pieces.piece;
    if (MlaRows(piece, p.division, rank).count <= 0) continue;
    const int end = piece.last_tile * kMlaTileKeys;
    for (int first = piece.first_tile * kMlaTileKeys; first < end;
         first += MlaFp8Tile::kStageKeys, at.advance(tile)) {
      barrier_wait(tile.full(at.stage), at.parity);
      mla_fp8_scale_stage<kCopiedKeys>(
          tile, at.stage, max(min(MlaFp8Tile::kStageKeys, piece.keys.context - first), 0), lane);
      __syncwarp();
      barrier_arrive_warp(tile.scaled(at.stage), lane);
    }
  }
}

}  // namespace latentd::cuda
