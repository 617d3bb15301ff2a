// The 512 + 64 attention over an fp8 cache: keys on their way into shared memory, and what their
// scales mean for codes, scores and weights.
#pragma once

#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/hopper.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_tile.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

// The page-table entries around the keys that are copied next, one a lane.
struct MlaFp8Pages {
  const std::int32_t* table;
  int page_tokens;
  int context;
  int first = -kWarp;  // lane l holds entry first + l
  int page = 0;

  // Of `key`, at most 31 behind lane 0's. Entries of keys that nobody may see are not read.
  __device__ int of(int key, int last_key, int lane) {
    if (last_key / page_tokens >= first + kWarp) {
      first = __shfl_sync(kAllLanes, key, 0) / page_tokens;
      page = (first + lane) * page_tokens < context ? table[first + lane] : 0;
    }
    return __shfl_sync(kAllLanes, page, key / page_tokens - first);
  }
};

// `bytes` that lie behind one another, a multiple of 16.
__device__ inline void copy_bytes(std::uint32_t to, const void* from, std::uint32_t barrier,
                                  int bytes) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
}

// One warp: keys of all pieces into shared memory, in the order of their use, kCopiedKeys with a
// copy.
template <int kCopiedKeys>
__device__ void mla_fp8_copy(const MlaFp8Tile& tile, const MlaAttentionParams& p,
                             const CUtensorMap* codes, const CUtensorMap* rope, int share,
                             int rank) {
  using namespace hopper;
  using Tile = MlaFp8Tile;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const BatchView& batch = p.attention.batch;
  const CacheView& cache = p.attention.cache;
  const int page_tokens = cache.page_tokens;
  const char* scales = static_cast<const char*>(cache.pool) + cache.scales_offset;
  const int known = p.pages[share * kMlaKnownPages + lane];
  MlaFp8Cursor to;
  for (MlaPieces pieces(p, share); pieces.more(); pieces.next()) {
    const MlaPiece& piece = pieces.piece;
    if (MlaRows(piece, p.division, rank).count <= 0) continue;
    MlaFp8Pages pages{
        batch.page_table + static_cast<std::size_t>(piece.keys.slot) * batch.max_pages, page_tokens,
        piece.keys.context};
    if (pieces.number == 0) {
      pages.first = piece.first_tile * kMlaTileKeys / page_tokens;
      pages.page = known;
    }
    const int end = piece.last_tile * kMlaTileKeys;
    for (int first = piece.first_tile * kMlaTileKeys; first < end;
         first += Tile::kStageKeys, to.advance()) {
      const int keys = max(min(Tile::kStageKeys, piece.keys.context - first), 0);
      const int copies = mla_divide_up(keys, kCopiedKeys);
      const int own = min(lane, Tile::kStageKeys / kCopiedKeys - 1) * kCopiedKeys;
      const int page = keys > 0 ? pages.of(first + own, first + keys - 1, lane) : 0;
      const std::uint32_t full = tile.full(to.stage);
      if (lane == 0) {
        barrier_wait(tile.empty(to.stage), to.parity ^ 1U);
        barrier_arrive_expecting(
            full, static_cast<std::uint32_t>(copies * kCopiedKeys * Tile::kKeyBytes));
      }
      __syncwarp();
      if (lane < copies) {
        const int token = (first + own) % page_tokens;
        copy_tensor_4d(tile.codes(to.stage) + static_cast<std::uint32_t>(own * Tile::kCodeBytes),
                       codes, full, 0, token, 0, page);
        copy_tensor_3d(tile.rope(to.stage) + static_cast<std::uint32_t>(own * Tile::kRopeBytes),
                       rope, full, 0, token, page);
        copy_bytes(tile.scales(to.stage) + static_cast<std::uint32_t>(own * Tile::kScaleBytes),
                   scales + static_cast<std::size_t>(page) * cache.page_stride +
                       static_cast<std::size_t>(token) * Tile::kScaleBytes,
                   full, kCopiedKeys * Tile::kScaleBytes);
      }
    }
  }
}

// Codes of keys from `keys` on become zeros: what lies there may be NaN, which a weight of zero
// does not take away. One warp.
template <int kCopiedKeys>
__device__ void mla_fp8_clear_keys(const MlaFp8Tile& tile, int stage, int keys, int lane) {
  static_assert(kMlaLatent / 16 == kWarp);
  char* codes = tile.memory + MlaFp8Tile::kKeys + stage * MlaFp8Tile::kStageBytes;
  for (int key = keys; key < MlaFp8Tile::kStageKeys; ++key) {
    *reinterpret_cast<uint4*>(codes + MlaFp8Tile::code_offset<kCopiedKeys>(key, lane / 8) +
                              lane % 8 * 16) = uint4{0, 0, 0, 0};
  }
}

// One warp, a key a lane: ratios and largest scales of every stage; nothing past the context is
// left as it was.
template <int kCopiedKeys>
__device__ void mla_fp8_scale(const MlaFp8Tile& tile, const MlaAttentionParams& p, int share,
                              int rank) {
  using namespace hopper;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  MlaFp8Cursor at;
  for (MlaPieces pieces(p, share); pieces.more(); pieces.next()) {
    const MlaPiece& piece = pieces.piece;
    if (MlaRows(piece, p.division, rank).count <= 0) continue;
    const int end = piece.last_tile * kMlaTileKeys;
    for (int first = piece.first_tile * kMlaTileKeys; first < end;
         first += MlaFp8Tile::kStageKeys, at.advance()) {
      const int keys = max(min(MlaFp8Tile::kStageKeys, piece.keys.context - first), 0);
      barrier_wait(tile.full(at.stage), at.parity);
      float scales[MlaFp8Tile::kScaleGroups] = {};
      float largest = 0.0F;
      if (lane < keys) {
        const float4 own =
            tile.at<float4>(MlaFp8Tile::kScales)[at.stage * MlaFp8Tile::kStageKeys + lane];
        scales[0] = own.x;
        scales[1] = own.y;
        scales[2] = own.z;
        scales[3] = own.w;
        // A scale of NaN stays in its ratio.
        largest = fmaxf(fmaxf(fmaxf(own.x, own.y), fmaxf(own.z, own.w)), kMlaFp8LeastScale);
      }
      const float inverse = lane < keys ? inverse_power(largest) : 0.0F;
#pragma unroll
      for (int g = 0; g < MlaFp8Tile::kScaleGroups; ++g) {
        tile.ratios(at.stage)[g * MlaFp8Tile::kStageKeys + lane] =
            __half_as_ushort(__float2half_rn(scales[g] * inverse));
      }
      tile.largest(at.stage)[lane] = largest;
      const unsigned most = __reduce_max_sync(kAllLanes, __float_as_uint(largest));
      if (lane == 0) tile.stage_largest(at.stage) = __uint_as_float(most);
      if (keys < MlaFp8Tile::kStageKeys) {
        mla_fp8_clear_keys<kCopiedKeys>(tile, at.stage, keys, lane);
        fence_async_shared();
      }
      __syncwarp();
      if (lane == 0) barrier_arrive(tile.scaled(at.stage));
    }
  }
}

}  // namespace latentd::cuda
