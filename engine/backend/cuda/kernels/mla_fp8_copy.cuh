// The 512 + 64 attention over an fp8 cache: keys on their way into shared memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/hopper.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_tile.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

// `bytes` that lie behind one another, a multiple of 16.
__device__ inline void copy_bytes(std::uint32_t to, const void* from, std::uint32_t barrier,
                                  int bytes) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
}

// The pages of a piece, one behind the other: 64 entries of the table are held or on their way, so
// that none is waited for. Entries of keys that nobody may see are not read.
class MlaFp8Pages {
 public:
  // From the page of `key` on. known: its entry and those behind, where has_known.
  __device__ MlaFp8Pages(const std::int32_t* table, int page_tokens, int context, int key,
                         bool has_known, int known)
      : table_(table),
        page_tokens_(page_tokens),
        lane_(static_cast<int>(threadIdx.x) % kWarp),
        pages_(mla_divide_up(context, page_tokens)),
        entry_(key / page_tokens),
        token_(key % page_tokens),
        first_(entry_) {
    held_ = has_known ? known : load(first_);
    next_ = load(first_ + kWarp);
  }
  __device__ int page() const { return __shfl_sync(kAllLanes, held_, entry_ - first_); }
  __device__ int token() const { return token_; }  // in the page
  // `keys` further; they divide a page, or it divides them.
  __device__ void advance(int keys) {
    for (token_ += keys; token_ >= page_tokens_; token_ -= page_tokens_) {
      if (++entry_ < first_ + kWarp) continue;
      first_ = entry_;
      held_ = next_;
      next_ = load(first_ + kWarp);
    }
  }

 private:
  __device__ int load(int first) const {
    return first + lane_ < pages_ ? table_[first + lane_] : 0;
  }
  const std::int32_t* table_;
  int page_tokens_;
  int lane_;
  int pages_;
  int entry_;
  int token_;
  int first_;  // lane l holds entry first + l, and that 32 behind
  int held_;
  int next_;
};

constexpr int kMlaFp8TilesFirst = 1;  // key tiles that are copied before a piece's queries

// One thread: a piece's queries as they are, where converted ones will lie.
template <bool kWide>
__device__ void mla_fp8_copy_queries(const MlaFp8Tile& tile, const CUtensorMap* queries,
                                     const MlaRows& rows, std::uint32_t turn) {
  using namespace hopper;
  using Tile = MlaFp8Tile;
  const int groups = mla_divide_up(rows.count, 8);
  const int at = kWide              ? Tile::kQueries<kMlaTileRows, true>
                 : rows.count <= 16 ? Tile::kQueries<16>
                 : rows.count <= 32 ? Tile::kQueries<32>
                                    : Tile::kQueries<64>;
  barrier_wait(tile.queries_empty(), turn ^ 1U);
  barrier_arrive_expecting(tile.queries_full(),
                           static_cast<std::uint32_t>(groups * Tile::kQueryGroupBytes));
  for (int i = 0; i < groups; ++i) {
    copy_tensor_3d(tile.address + static_cast<std::uint32_t>(at + i * Tile::kQueryGroupBytes),
                   queries, tile.queries_full(), 0, rows.row + i * 8, 0);
  }
}

// Warp `warp` of kWarps: keys of all pieces into shared memory, in the order of their use, every
// kWarps-th run of stages, kCopiedKeys with a copy.
template <int kCopiedKeys, int kWarps, bool kWide>
__device__ void mla_fp8_copy(const MlaFp8Tile& tile, const MlaAttentionParams& p, MlaPieces& pieces,
                             const CUtensorMap* queries, const CUtensorMap* codes,
                             const CUtensorMap* rope, int known, int rank, int warp) {
  using namespace hopper;
  using Tile = MlaFp8Tile;
  constexpr int kKeys = kCopiedKeys < Tile::kStageKeys ? Tile::kStageKeys : kCopiedKeys;
  constexpr int kStages = kKeys / Tile::kStageKeys;
  const bool leader = threadIdx.x % kWarp == 0;
  const BatchView& batch = p.attention.batch;
  const CacheView& cache = p.attention.cache;
  const char* scales = static_cast<const char*>(cache.pool) + cache.scales_offset;
  MlaFp8Cursor to;
  to.advance(tile, warp * kStages);
  std::uint32_t turn = 0;  // of the queries
  for (; pieces.more(); pieces.next()) {
    const MlaPiece& piece = pieces.piece;
    const MlaRows rows(piece, p.division, rank);
    if (rows.count <= 0) continue;
    MlaFp8Pages pages(
        batch.page_table + static_cast<std::size_t>(piece.keys.slot) * batch.max_pages,
        cache.page_tokens, piece.keys.context, piece.first_tile * kMlaTileKeys, pieces.number == 0,
        known);
    pages.advance(warp * kKeys);
    const int end = piece.last_tile * kMlaTileKeys;
    // The first keys come while the launch before ends, unless they are of this step.
    const int older = pieces.number == 0 ? min(piece.view.start, piece.keys.context - 1) : 0;
    const int keys_before = (piece.first_tile + kMlaFp8TilesFirst) * kMlaTileKeys;
    bool has_queries = false;
    for (int first = piece.first_tile * kMlaTileKeys + warp * kKeys; first < end;
         first += kWarps * kKeys, to.advance(tile, kWarps * kStages)) {
      const int keys = max(min(kKeys, piece.keys.context - first), 0);
      const int copies = mla_divide_up(keys, kCopiedKeys);
      if (first + kKeys > older) wait_for_last_launch();
      const std::uint32_t full = tile.full(to.stage);
      if (leader) {
#pragma unroll
        for (int i = 0; i < kStages; ++i) {
          barrier_wait(tile.empty(to.stage + i), to.parity ^ 1U);
        }
        barrier_arrive_expecting(
            full, static_cast<std::uint32_t>(copies * kCopiedKeys * Tile::kKeyBytes));
        // The second stage's keys count on the barrier of the first, for which all wait before.
        if (kStages > 1) barrier_arrive(tile.full(to.stage + 1));
      }
      __syncwarp();
#pragma unroll
      for (int i = 0; i < kKeys / kCopiedKeys; ++i) {
        const int page = pages.page();
        const int token = pages.token();
        if (leader && i < copies) {
          const int own = i * kCopiedKeys;
          copy_tensor_4d(tile.codes<kCopiedKeys>(to.stage) +
                             static_cast<std::uint32_t>(own * Tile::kCodeBytes),
                         codes, full, 0, token, 0, page);
          copy_tensor_3d(
              tile.rope<kCopiedKeys>(to.stage) + static_cast<std::uint32_t>(own * Tile::kRopeBytes),
              rope, full, 0, token, page);
          copy_bytes(tile.scales(to.stage) + static_cast<std::uint32_t>(own * Tile::kScaleBytes),
                     scales + static_cast<std::size_t>(page) * cache.page_stride +
                         static_cast<std::size_t>(token) * Tile::kScaleBytes,
                     full, kCopiedKeys * Tile::kScaleBytes);
        }
        pages.advance(kCopiedKeys);
      }
      pages.advance((kWarps - 1) * kKeys);
      // Queries come behind the first keys, which may be there already, and before the others, that
      // there is nothing to wait for behind what fills the stages.
      const int copied = first + kWarps * kKeys;
      if (warp == 0 && !has_queries && (copied >= keys_before || copied >= end)) {
        has_queries = true;
        wait_for_last_launch();
        if (leader) mla_fp8_copy_queries<kWide>(tile, queries, rows, turn);
        turn ^= 1U;
      }
    }
  }
}

}  // namespace latentd::cuda
