// The 512 + 64 attention over an fp8 cache: keys on their way into shared memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/hopper.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_tile.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

// Copies of keys, which nobody reads again in this launch: they leave the L2 cache before all else,
// so that plan, queries, code and partial results stay there.
struct MlaFp8KeyCopy {
  static constexpr std::uint64_t kEvictFirst = 0x12F0000000000000;  // what createpolicy makes of it

  __device__ static void codes(std::uint32_t to, const CUtensorMap* map, std::uint32_t barrier,
                               int token, int page) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
        ".L2::cache_hint [%0], [%1, {%3, %4, %3, %5}], [%2], %6;" ::"r"(to),
        "l"(map), "r"(barrier), "r"(0), "r"(token), "r"(page), "l"(kEvictFirst)
        : "memory");
  }
  __device__ static void rope(std::uint32_t to, const CUtensorMap* map, std::uint32_t barrier,
                              int token, int page) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
        ".L2::cache_hint [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(to),
        "l"(map), "r"(barrier), "r"(0), "r"(token), "r"(page), "l"(kEvictFirst)
        : "memory");
  }
  // `bytes` that lie behind one another, a multiple of 16.
  __device__ static void scales(std::uint32_t to, const void* from, std::uint32_t barrier,
                                int bytes) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
        "[%0], [%1], %2, [%3], %4;" ::"r"(to),
        "l"(from), "r"(bytes), "r"(barrier), "l"(kEvictFirst)
        : "memory");
  }
};

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

// One thread: the queries of all pieces, kQueries at a time, as they are, where converted ones will
// lie.
template <int kQueries>
__device__ void mla_fp8_copy_queries(const MlaFp8Tile& tile, const MlaAttentionParams& p,
                                     MlaPieces& pieces, const CUtensorMap* queries, int rank) {
  using namespace hopper;
  using Tile = MlaFp8Tile;
  wait_for_last_launch();
  std::uint32_t turn = 0;
  for (; pieces.more(); pieces.next()) {
    const MlaRows rows(pieces.piece, p.division, rank);
    for (int first = 0; first < rows.count; first += kQueries, turn ^= 1U) {
      const int groups = mla_divide_up(min(rows.count - first, kQueries), 8);
      barrier_wait(tile.queries_empty(), turn ^ 1U);
      barrier_arrive_expecting(tile.queries_full(),
                               static_cast<std::uint32_t>(groups * Tile::kQueryGroupBytes));
#pragma unroll 1
      for (int i = 0; i < groups; ++i) {
        const int at = Tile::kQueries<kQueries> + i * Tile::kQueryGroupBytes;
        copy_tensor_3d(tile.address + static_cast<std::uint32_t>(at), queries, tile.queries_full(),
                       0, rows.row + first + i * 8, 0);
      }
    }
  }
}

// Until the first queries are there a key tile is copied every so many clocks, a little faster than
// the memory gives all CTAs theirs: queries would come behind whatever fills the stages.
constexpr unsigned kMlaFp8TilePace = 1500;

// A warp: keys of all pieces into shared memory, in the order of their use, kCopiedKeys with a
// copy; once for every kQueries queries of a piece.
template <int kCopiedKeys, int kQueries>
__device__ void mla_fp8_copy_keys(const MlaFp8Tile& tile, const MlaAttentionParams& p,
                                  MlaPieces& pieces, const CUtensorMap* codes,
                                  const CUtensorMap* rope, int known, int rank) {
  using namespace hopper;
  using Tile = MlaFp8Tile;
  constexpr int kKeys = kCopiedKeys < Tile::kStageKeys ? Tile::kStageKeys : kCopiedKeys;
  constexpr int kStages = kKeys / Tile::kStageKeys;
  const bool leader = threadIdx.x % kWarp == 0;
  const BatchView& batch = p.attention.batch;
  const CacheView& cache = p.attention.cache;
  const char* scales = static_cast<const char*>(cache.pool) + cache.scales_offset;
  MlaFp8Cursor to;
  for (; pieces.more(); pieces.next()) {
    const MlaPiece& piece = pieces.piece;
    const MlaRows rows(piece, p.division, rank);
    const int begin = piece.first_tile * kMlaTileKeys;
    const int end = piece.last_tile * kMlaTileKeys;
    for (int vector = 0; vector < rows.count; vector += kQueries) {
      const bool starts = pieces.number == 0 && vector == 0;
      MlaFp8Pages pages(
          batch.page_table + static_cast<std::size_t>(piece.keys.slot) * batch.max_pages,
          cache.page_tokens, piece.keys.context, begin, pieces.number == 0, known);
      // The first keys come while the launch before ends, unless they are of this step.
      const int older = starts ? min(piece.view.start, piece.keys.context - 1) : 0;
      // What fits into the stages at first.
      const int paced_end = starts ? begin + tile.stages * Tile::kStageKeys : 0;
      for (int first = begin; first < end; first += kKeys, to.advance(tile, kStages)) {
        const int keys = max(min(kKeys, piece.keys.context - first), 0);
        const int copies = mla_divide_up(keys, kCopiedKeys);
        if (first + kKeys > older) wait_for_last_launch();
        if (first > begin && first < paced_end) {
          barrier_wait_a_while(tile.queries_full(), 0, kMlaFp8TilePace);
        }
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
            MlaFp8KeyCopy::codes(tile.codes<kCopiedKeys>(to.stage) +
                                     static_cast<std::uint32_t>(own * Tile::kCodeBytes),
                                 codes, full, token, page);
            MlaFp8KeyCopy::rope(tile.rope<kCopiedKeys>(to.stage) +
                                    static_cast<std::uint32_t>(own * Tile::kRopeBytes),
                                rope, full, token, page);
            MlaFp8KeyCopy::scales(
                tile.scales(to.stage) + static_cast<std::uint32_t>(own * Tile::kScaleBytes),
                scales + static_cast<std::size_t>(page) * cache.page_stride +
                    static_cast<std::size_t>(token) * Tile::kScaleBytes,
                full, kCopiedKeys * Tile::kScaleBytes);
          }
          pages.advance(kCopiedKeys);
        }
      }
    }
  }
}

}  // namespace latentd::cuda
