// The 512 + 64 attention kernel: keys and queries on their way into shared memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/hopper.cuh"
#include "engine/backend/cuda/kernels/mla_tile.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

// The page-table entries around the keys that are copied next, one a lane, and those behind them.
struct MlaPages {
  __device__ MlaPages(const BatchView& batch, int tokens_of_page, const MlaSegment& keys)
      : table(batch.page_table + static_cast<std::size_t>(keys.slot) * batch.max_pages),
        page_tokens(tokens_of_page),
        context(keys.context) {}

  // Entries of keys that nobody may see are not read.
  __device__ int load(int entry) const { return entry * page_tokens < context ? table[entry] : 0; }
  // Holds entries from `entry` on; `own` is that of the lane.
  __device__ void hold(int entry, int own, int lane) {
    first = entry;
    page = own;
    next = load(entry + kWarp + lane);
  }
  // All lanes call, with entries that ascend by less than 32 from lane to lane and call to call.
  __device__ int of(int entry, int lane) {
    if (__shfl_sync(kAllLanes, entry, kWarp - 1) >= first + kWarp) {
      const int lowest = __shfl_sync(kAllLanes, entry, 0);
      if (lowest >= first + kWarp) {
        hold(first + kWarp, next, lane);
      } else {
        hold(lowest, load(lowest + lane), lane);
      }
    }
    return __shfl_sync(kAllLanes, page, entry - first);
  }

  const std::int32_t* table;
  int page_tokens;
  int context;
  int first = 0;  // lane l holds entries first + l and first + 32 + l
  int page = 0;
  int next = 0;
};

// One warp: keys and queries of all pieces into shared memory, in the order of their use. The CTAs
// of a cluster share the keys: each copies a part of every stage to all of them.
template <typename Keys, int kGroup>
__device__ void mla_copy(const MlaTile& tile, const MlaAttentionParams& p,
                         const CUtensorMap* query_map, const CUtensorMap* key_map, int share,
                         int rank) {
  using namespace hopper;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const BatchView& batch = p.attention.batch;
  constexpr int kStageBoxes = MlaTile::kStageGroups;
  const int page_tokens = p.attention.cache.page_tokens;
  const int known = p.pages[share * kMlaKnownPages + lane];
  int halves = 0;
  for (MlaPieces pieces(p, share); pieces.more(); pieces.next()) {
    const MlaPiece& piece = pieces.piece;
    const MlaRows rows(piece, p.division, rank);
    MlaKeys keys_of(p, piece);
    MlaPages pages(batch, page_tokens, keys_of.now);
    const int first_entry = keys_of.first_key(piece.first_tile) / page_tokens;
    pages.hold(first_entry, pieces.number == 0 ? known : pages.load(first_entry + lane), lane);
    // The first keys come while the launch before ends, unless they are of this step.
    if (pieces.number == 0 && keys_of.first_key(piece.first_tile) + kMlaTileKeys >
                                  min(piece.view.start, keys_of.now.context - 1)) {
      wait_for_last_launch();
    }
    for (int t = piece.first_tile; t < piece.last_tile; ++t) {
      if (keys_of.begin(t)) {
        pages = MlaPages(batch, page_tokens, keys_of.now);
        const int entry = keys_of.first_key(t) / page_tokens;
        pages.hold(entry, pages.load(entry + lane), lane);
      }
      // Lane l copies the 8 keys from l * 8 on.
      const int first_key = keys_of.first_key(t);
      const int key = first_key + min(lane, 2 * kStageBoxes - 1) * 8;
      const int entry = key / page_tokens;
      const int page = pages.of(entry, lane);
      const int boxes = min(mla_divide_up(pages.context - first_key, 8), 2 * kStageBoxes);
      for (int half = 0; half < 2; ++half, ++halves) {
        const MlaStage stage(halves);
        const int box = lane - half * kStageBoxes;
        if (lane < kWarpArrivals) barrier_wait(tile.empty(stage.index), stage.parity ^ 1U);
        if (!Keys::kWidened && lane == 0) {
          barrier_arrive_expecting(
              tile.full(stage.index),
              static_cast<std::uint32_t>(max(min(boxes - half * kStageBoxes, kStageBoxes), 0) *
                                         Keys::kCopiedBytes));
        }
        __syncwarp();
        const std::uint32_t to =
            tile.stage(stage.index) + static_cast<std::uint32_t>(box * MlaTile::kGroupBytes);
        if (box >= 0 && box < kStageBoxes) {
          std::uint32_t barrier = tile.full(stage.index);
          if constexpr (Keys::kWidened) {
            barrier = tile.copied(stage.index, box);
            barrier_arrive_expecting(barrier, lane < boxes ? Keys::kCopiedBytes : 0U);
          }
          if (lane < boxes && lane % kGroup == rank) {
            Keys::template copy<kGroup>(key_map, p.attention.cache, to, barrier,
                                        key - entry * page_tokens, page);
          }
        }
      }
      if (t == piece.first_tile) {
        const int groups = max(mla_divide_up(rows.count, 8), 0);
        wait_for_last_launch();
        if (lane == 0) {
          barrier_wait(tile.queries_empty(), static_cast<std::uint32_t>(pieces.number + 1) & 1U);
          barrier_arrive_expecting(tile.queries_full(),
                                   static_cast<std::uint32_t>(groups * MlaTile::kGroupBytes));
        }
        __syncwarp();
        if (lane < groups) {
          copy_tensor_3d(tile.queries() + static_cast<std::uint32_t>(lane * MlaTile::kGroupBytes),
                         query_map, tile.queries_full(), 0, rows.row + lane * 8, 0);
        }
      }
    }
  }
}

}  // namespace latentd::cuda
