// Dense products of many tokens: 128 x 256 tiles on warp-group tensor cores (sm_90a).
//
// Tokens lie on M, weight rows on N. A block is two computing warp groups with 64 tokens each, and
// one warp group that fills a ring of stages: weights through the copy engine, in two boxes of 128
// rows, and tokens by asynchronous copies, which gather them by their addresses. A persistent grid
// walks the items. A value is one chain over ascending k, 16 at a time.
//
// Contract: bf16 rows whose addresses and lengths are multiples of 16 bytes.
#pragma once

#include "engine/backend/cuda/expert_policy.h"
#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/tensor_core.cuh"
#include "engine/backend/cuda/kernels/tensor_core_group.cuh"

namespace latentd::cuda {

constexpr int kGroup = 4 * kWarp;
constexpr int kTileGroups = 2;  // that compute
constexpr int kTilesThreads = (kTileGroups + 1) * kGroup;
constexpr int kTileTokens = 64 * kTileGroups;
constexpr int kTileWeights = 256;
constexpr int kTileRowBytes = kTileK * 2;
constexpr int kTilePieces = kTileRowBytes / kPieceBytes;
constexpr int kTileStages = 4;
constexpr int kTileLag = 2;  // stages between issuing copies and waiting for them
constexpr int kTileStageBytes = (kTileTokens + kTileWeights) * kTileRowBytes;
constexpr int kTilesSharedBytes = 1024 + kTileStages * kTileStageBytes;
static_assert(2 * kTileBoxRows == kTileWeights);
constexpr int kTileBoxBytes = kTileBoxRows * kTileRowBytes;
// Rows of tokens that the copying group fills at once: thread i has piece i % 8 of row i / 8.
constexpr int kTileCopyRows = kGroup / kTilePieces;
constexpr int kTileTokenCopies = kTileTokens / kTileCopyRows;

// Where the copies of thread i begin: piece i % 8 of rows i / 8, + 16, ...
struct TileTokens {
  const char* rows[kTileTokenCopies];  // null: no such token

  __device__ static int row(int copy) {
    return copy * kTileCopyRows + static_cast<int>(threadIdx.x) % kGroup / kTilePieces;
  }
  __device__ static int piece_bytes() {
    return static_cast<int>(threadIdx.x) % kTilePieces * kPieceBytes;
  }
};

// The two boxes of an item's weights (make_tensor_map, boxes of kTileBoxRows x kTileK).
struct TileBoxes {
  const CUtensorMap* maps[2];
  int first_rows[2];
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

struct TileRing {
  std::uint32_t stages;
  std::uint32_t full;   // barriers: the copies of a stage are done
  std::uint32_t empty;  // the products of a stage are done

  __device__ explicit TileRing(char* shared, std::uint64_t* barriers)
      : stages((shared_address(shared) + 1023U) / 1024U * 1024U),
        full(shared_address(barriers)),
        empty(shared_address(barriers + kTileStages)) {}
  __device__ std::uint32_t stage(int i) const {
    return stages + static_cast<std::uint32_t>(i % kTileStages * kTileStageBytes);
  }
  __device__ std::uint32_t full_at(int i) const {
    return full + static_cast<std::uint32_t>(i % kTileStages * 8);
  }
  __device__ std::uint32_t empty_at(int i) const {
    return empty + static_cast<std::uint32_t>(i % kTileStages * 8);
  }
  __device__ static std::uint32_t parity(int i) {
    return static_cast<std::uint32_t>(i / kTileStages % 2);
  }
};

__device__ inline void copy_tile_tokens(std::uint32_t stage, const TileTokens& tokens, int k0,
                                        int inner) {
  const int piece = static_cast<int>(threadIdx.x) % kTilePieces;
  const bool inside = k0 + piece * (kPieceBytes / 2) < inner;
  const std::size_t offset = inside ? static_cast<std::size_t>(k0) * 2 : 0;
  const int row = TileTokens::row(0);
  // Rows of one thread are a multiple of 8 apart: one place for all.
  std::uint32_t to =
      stage + static_cast<std::uint32_t>(row * kTileRowBytes + (piece ^ (row & 7)) * kPieceBytes);
#pragma unroll
  for (int i = 0; i < kTileTokenCopies; ++i, to += kTileCopyRows * kTileRowBytes) {
    if (tokens.rows[i] != nullptr) copy_piece(to, tokens.rows[i] + offset, inside);
  }
}

__device__ inline void copy_tile_weights(std::uint32_t stage, std::uint32_t full,
                                         const TileBoxes& boxes, int k0) {
  hopper::barrier_arrive_expecting(full, 2 * kTileBoxBytes);
  const std::uint32_t to = stage + kTileTokens * kTileRowBytes;
#pragma unroll
  for (int box = 0; box < 2; ++box) {
    copy_box(to + static_cast<std::uint32_t>(box * kTileBoxBytes), boxes.maps[box], full, k0,
             boxes.first_rows[box]);
  }
}

// The copying warp group: stage i may be overwritten when the products of stage i - kTileStages
// are done; its tokens are handed over kTileLag stages later.
template <typename Work>
__device__ inline void copy_tiles(const Work& work, const TileRing& ring) {
  const int inner = work.inner();
  const bool leads = threadIdx.x % kGroup == 0;
  int issued = 0;
  const auto hand_over = [&](int i) {
    hopper::fence_async_shared();
    hopper::barrier_arrive(ring.full_at(i));
  };
  for (int item = blockIdx.x; item < work.num_items(); item += gridDim.x) {
    TileTokens tokens;
    work.locate(item, tokens);
    const TileBoxes boxes = work.boxes(item);
    for (int k0 = 0; k0 < inner; k0 += kTileK, ++issued) {
      if (issued >= kTileStages) {
        hopper::barrier_wait(ring.empty_at(issued), ring.parity(issued - kTileStages));
      }
      if (leads) copy_tile_weights(ring.stage(issued), ring.full_at(issued), boxes, k0);
      copy_tile_tokens(ring.stage(issued), tokens, k0, inner);
      commit_copies();
      if (issued < kTileLag) continue;
      wait_copies<kTileLag>();
      hand_over(issued - kTileLag);
    }
  }
  wait_copies<0>();
  for (int i = max(issued - kTileLag, 0); i < issued; ++i) hand_over(i);
}

// A computing warp group.
template <typename Work>
__device__ inline void multiply_tiles(const Work& work, const TileRing& ring) {
  const int group = static_cast<int>(threadIdx.x) / kGroup;
  const bool first_lane = threadIdx.x % kWarp == 0;
  const int inner = work.inner();
  int used = 0;
  for (int item = blockIdx.x; item < work.num_items(); item += gridDim.x) {
    if (work.num_tokens(item) <= group * 64) {
      for (int k0 = 0; k0 < inner; k0 += kTileK, ++used) {
        hopper::barrier_wait(ring.full_at(used), ring.parity(used));
        if (first_lane) hopper::barrier_arrive(ring.empty_at(used));
      }
      continue;
    }
    float acc[128];
#pragma unroll
    for (float& value : acc) value = 0.0F;
    for (int k0 = 0; k0 < inner; k0 += kTileK, ++used) {
      hopper::barrier_wait(ring.full_at(used), ring.parity(used));
      const std::uint32_t stage = ring.stage(used);
      const std::uint64_t tokens = tile_descriptor(stage + group * 64 * kTileRowBytes);
      const std::uint64_t weights = tile_descriptor(stage + kTileTokens * kTileRowBytes);
      hopper::wgmma_fence();
#pragma unroll
      for (int step = 0; step < kTileK / 16; ++step) {
        multiply_group(acc, tokens + 2 * step, weights + 2 * step);
      }
      hopper::wgmma_commit();
      hopper::wgmma_wait<1>();
      if (k0 > 0 && first_lane) hopper::barrier_arrive(ring.empty_at(used - 1));
    }
    hopper::wgmma_wait<0>();
    hopper::wgmma_results(acc);
    if (first_lane) hopper::barrier_arrive(ring.empty_at(used - 1));
    work.finish(item, group * 64, acc);
  }
}

#endif

// Runs all of `work`'s items over the grid. Work has
//   int num_items(), int inner()
//   int num_tokens(item)                     of its tile
//   void locate(item, TileTokens&)           where the item's tokens lie, for this thread
//   TileBoxes boxes(item)
//   void finish(item, first_token, acc)      stores what a warp group computed
template <typename Work>
__device__ inline void multiply_weight_tiles(const Work& work, char* shared) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  __shared__ std::uint64_t barriers[2 * kTileStages];
  const TileRing ring(shared, barriers);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kTileStages; ++i) {
      hopper::barrier_init(ring.full_at(i), kGroup + 1);
      hopper::barrier_init(ring.empty_at(i), kTileGroups * kGroup / kWarp);
    }
    hopper::fence_barrier_init();
    hopper::fence_async_shared();
  }
  __syncthreads();
  if (threadIdx.x / kGroup == kTileGroups) {
    copy_tiles(work, ring);
  } else {
    multiply_tiles(work, ring);
  }
#else
  (void)work;
  (void)shared;
  __trap();
#endif
}

}  // namespace latentd::cuda
