// Products of experts and many tokens: tiles of 128 weight rows and up to 208 tokens (sm_90a).
//
// Weight rows lie on M, tokens on N, so that a tile is as wide as its part has tokens, in steps of
// 16. Two warp groups take turns: one multiplies a whole tile while the other stores what it has
// computed. One thread fills a ring of stages through the copy engine; the blocks of a cluster have
// neighbouring slabs of the same part, and each copies a share of the tokens to both. A value is
// one chain over ascending k, 16 at a time, with the bits of weight_tiles.cuh and
// weight_stream.cuh.
//
// Contract: bf16 rows whose addresses and lengths are multiples of 16 bytes.
#pragma once

#include "engine/backend/cuda/expert_policy.h"
#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/group_widths.cuh"

namespace latentd::cuda {

constexpr int kTurnGroup = 4 * kWarp;
constexpr int kTurnThreads = 3 * kTurnGroup;
constexpr int kTurnCluster = 2;
constexpr int kTurnRowBytes = kTileK * 2;
constexpr int kTurnHalfRows = kExpertBoxRows;  // of weights: one product of a warp group
constexpr int kTurnWeights = 2 * kTurnHalfRows;
constexpr int kTurnHalfBytes = kTurnHalfRows * kTurnRowBytes;
// Tokens are copied in boxes of so many rows, an odd kTokenStep in a box of their own.
constexpr int kTokenBox = 32;
constexpr int kTokenStep = 16;
constexpr int kTurnStaging = 7168;  // of a group: a tile's values on their way to memory

// Most tokens of a tile, and the stages that fit beside one another.
template <int kMostTokens, int kRingStages>
struct TurnShape {
  static constexpr int kTokens = kMostTokens;
  static constexpr int kStages = kRingStages;
  static constexpr int kStageBytes = 2 * kTurnHalfBytes + kTokens * kTurnRowBytes;
  static constexpr int kGroupBytes = kTurnStaging + kTokens * 4;  // and its entries
  static constexpr int kSharedBytes = 1024 + kStages * kStageBytes + 2 * kGroupBytes;
  static_assert(kTokens % kTokenStep == 0 && kStageBytes % 1024 == 0 && kGroupBytes % 16 == 0);
};
using NarrowTurns = TurnShape<kNarrowPart, 7>;
using WideTurns = TurnShape<kWidePart, 5>;

// The first of the two boxes of an item's weights; the other is Work::kSecondMap maps and
// Work::kSecondRow rows further.
struct TurnWeights {
  const CUtensorMap* map;
  int first_row;
};

// The rows of an item's tokens: maps with boxes of kTokenBox and of kTokenStep rows.
struct TurnTokens {
  const CUtensorMap* maps;
  int first;
  int count;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

template <typename Shape>
struct TurnRing {
  std::uint32_t stages;
  std::uint32_t full;   // barriers: the copies of a stage are done
  std::uint32_t empty;  // its products are done, in all blocks of the cluster
  std::uint32_t staging;

  __device__ TurnRing(char* shared, std::uint64_t* barriers)
      : stages((hopper::shared_address(shared) + 1023U) / 1024U * 1024U),
        full(hopper::shared_address(barriers)),
        empty(hopper::shared_address(barriers + Shape::kStages)),
        staging(stages + Shape::kStages * Shape::kStageBytes) {}
  __device__ std::uint32_t stage(int slot) const {
    return stages + static_cast<std::uint32_t>(slot * Shape::kStageBytes);
  }
  __device__ std::uint32_t full_at(int slot) const {
    return full + static_cast<std::uint32_t>(slot * 8);
  }
  __device__ std::uint32_t empty_at(int slot) const {
    return empty + static_cast<std::uint32_t>(slot * 8);
  }
};

// A place in the ring, and the parity of its round.
template <typename Shape>
struct TurnPlace {
  int slot = 0;
  std::uint32_t parity = 0;

  __device__ void advance() {
    if (++slot < Shape::kStages) return;
    slot = 0;
    parity ^= 1U;
  }
  __device__ void advance(int stages) {
    slot += stages;
    parity ^= static_cast<std::uint32_t>(slot / Shape::kStages) & 1U;
    slot %= Shape::kStages;
  }
};

__device__ inline void multicast_box(std::uint32_t to, const CUtensorMap* map,
                                     std::uint32_t barrier, std::uint16_t mask, int column,
                                     int row) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%4, %5}], [%2], %3;" ::"r"(to),
      "l"(map), "r"(barrier), "h"(mask), "r"(column), "r"(row)
      : "memory");
}

// One thread: fills the ring for all items of this block.
template <typename Shape, typename Work>
__device__ inline void copy_in_turns(const Work& work, const TurnRing<Shape>& ring) {
  const auto acquire = [](const TurnWeights& w) {
    acquire_tensor_map(w.map);
    if (Work::kSecondMap > 0) acquire_tensor_map(w.map + Work::kSecondMap);
    hopper::prefetch_tensor_map(w.map);
    if (Work::kSecondMap > 0) hopper::prefetch_tensor_map(w.map + Work::kSecondMap);
  };
  const int rank = static_cast<int>(blockIdx.x) % kTurnCluster;
  const int inner = work.inner();
  const int items = work.num_items();
  TurnPlace<Shape> at;
  bool filled = false;
  int item = static_cast<int>(blockIdx.x);
  if (item >= items) return;
  TurnWeights weights = work.weights(item);
  acquire(weights);
  while (item < items) {
    const int next = item + static_cast<int>(gridDim.x);
    const TurnWeights next_weights = work.weights(next < items ? next : item);
    // Early, since it makes the copy engine fetch the map anew.
    if (next_weights.map != weights.map) acquire(next_weights);
    const TurnTokens tokens = work.tokens(item);
    const int rows = (tokens.count + kTokenStep - 1) / kTokenStep * kTokenStep;
#pragma unroll 1
    for (int k0 = 0; k0 < inner; k0 += kTileK) {
      const std::uint32_t full = ring.full_at(at.slot);
      std::uint32_t to = ring.stage(at.slot);
      if (filled) hopper::barrier_wait(ring.empty_at(at.slot), at.parity ^ 1U);
      hopper::barrier_arrive_expecting(
          full, static_cast<std::uint32_t>(2 * kTurnHalfBytes + rows * kTurnRowBytes));
      copy_box(to, weights.map, full, k0, weights.first_row);
      copy_box(to + kTurnHalfBytes, weights.map + Work::kSecondMap, full, k0,
               weights.first_row + Work::kSecondRow);
      to += 2 * kTurnHalfBytes;
#pragma unroll 1
      for (int row = rank * kTokenBox; row < rows; row += kTurnCluster * kTokenBox) {
        multicast_box(to + static_cast<std::uint32_t>(row * kTurnRowBytes),
                      tokens.maps + (row + kTokenBox <= rows ? 0 : 1), full,
                      (1U << kTurnCluster) - 1U, k0, tokens.first + row);
      }
      at.advance();
      filled = filled || at.slot == 0;
    }
    item = next;
    weights = next_weights;
  }
}

// The tile of one item by one warp group. `waits`: until the other group has begun all products of
// the item before; `hands_over`: the other has an item after this.
template <int kTokens, typename Shape, typename Work>
__device__ inline void multiply_turn(const Work& work, const TurnRing<Shape>& ring, int item,
                                     TurnPlace<Shape> at, int group, bool waits, bool hands_over) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int inner = work.inner();
  const auto release = [&](int slot) {
    if (lane < kTurnCluster) hopper::barrier_arrive_at(ring.empty_at(slot), lane);
  };
  float acc[2][kTokens / 2];
#pragma unroll
  for (auto& half : acc) {
#pragma unroll
    for (float& value : half) value = 0.0F;
  }
  if (waits) hopper::named_barrier(3 + group, 2 * kTurnGroup);
  int last = 0;
  for (int k0 = 0; k0 < inner; k0 += kTileK) {
    hopper::barrier_wait(ring.full_at(at.slot), at.parity);
    const std::uint64_t weights = tile_descriptor(ring.stage(at.slot));
    const std::uint64_t tokens = tile_descriptor(ring.stage(at.slot) + 2 * kTurnHalfBytes);
    hopper::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kTileK / 16; ++step) {
      multiply_group(acc[0], weights + 2 * step, tokens + 2 * step);
      multiply_group(acc[1], weights + kTurnHalfBytes / 16 + 2 * step, tokens + 2 * step);
    }
    hopper::wgmma_commit();
    hopper::wgmma_wait<1>();
    if (k0 > 0) release(last);
    last = at.slot;
    at.advance();
  }
  if (hands_over) hopper::named_barrier_arrive(3 + (1 - group), 2 * kTurnGroup);
  hopper::wgmma_wait<0>();
  hopper::wgmma_results(acc[0]);
  hopper::wgmma_results(acc[1]);
  release(last);
  work.template finish<kTokens>(
      item, acc, ring.staging + static_cast<std::uint32_t>(group * Shape::kGroupBytes), 1 + group);
}

// multiply_turn as wide as `tokens` need.
template <int kTokens, typename... Args>
__device__ inline void multiply_width(int tokens, const Args&... args) {
  if (tokens > kTokens - kTokenStep) {
    multiply_turn<kTokens>(args...);
  } else if constexpr (kTokens > kTokenStep) {
    multiply_width<kTokens - kTokenStep>(tokens, args...);
  }
}

// A warp group: every second of the block's items.
template <typename Shape, typename Work>
__device__ inline void multiply_in_turns(const Work& work, const TurnRing<Shape>& ring, int group) {
  const int stages = (work.inner() + kTileK - 1) / kTileK;
  const int grid = static_cast<int>(gridDim.x);
  const int items = work.num_items();
  TurnPlace<Shape> at;
  if (group == 1) at.advance(stages);
  int item = static_cast<int>(blockIdx.x) + group * grid;
  int tokens = item < items ? work.part(item).count : 0;
  for (int n = group; item < items; n += 2) {
    const int next = item + 2 * grid;
    const int next_tokens = next < items ? work.part(next).count : 0;
    multiply_width<Shape::kTokens>(tokens, work, ring, item, at, group, n > 0, item + grid < items);
    at.advance(2 * stages);
    item = next;
    tokens = next_tokens;
  }
}

#endif

// Runs all of `work`'s items, a multiple of the cluster's blocks, over the grid. Work has
//   int num_items(), int inner(), const ExpertPart& part(item)
//   TurnWeights weights(item), TurnTokens tokens(item), kSecondMap, kSecondRow
//   void finish(item, acc, staging, barrier)   stores what a warp group computed; rows of weights
//     of the first box in acc[0], of the second in acc[1], and with g = lane / 4, t = lane % 4
//     value 4j + i of row 16 * warp + g + 8 * (i / 2), token 8j + 2t + i % 2
template <typename Shape, typename Work>
__device__ inline void multiply_turn_tiles(const Work& work, char* shared) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  __shared__ std::uint64_t barriers[2 * Shape::kStages];
  const TurnRing<Shape> ring(shared, barriers);
  if (threadIdx.x == 0) {
    for (int i = 0; i < Shape::kStages; ++i) {
      hopper::barrier_init(ring.full_at(i), 1);
      hopper::barrier_init(ring.empty_at(i), kTurnCluster * kTurnGroup / kWarp);
    }
    hopper::fence_barrier_init();
  }
  hopper::cluster_barrier();
  if (threadIdx.x / kTurnGroup == 2) {
    hopper::give_registers<24>();
    if (threadIdx.x % kTurnGroup == 0) copy_in_turns(work, ring);
    __syncwarp();
  } else {
    hopper::take_registers<240>();
    multiply_in_turns(work, ring, static_cast<int>(threadIdx.x) / kTurnGroup);
  }
  hopper::cluster_barrier();  // nobody leaves while the other still copies to it or tells it
#else
  (void)work;
  (void)shared;
  __trap();
#endif
}

}  // namespace latentd::cuda
