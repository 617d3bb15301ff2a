// experts of many tokens in bf16 on warp-group tensor cores: gate and up with the activation, down.
#pragma once

#include <cstddef>

#include "engine/backend/cuda/kernels/dependent_launch.cuh"
#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/cuda/kernels/expert_work.cuh"
#include "engine/backend/cuda/kernels/turn_tiles.cuh"

namespace latentd::cuda {

// What the kernels are given. Rows of `sorted` and of the step's act stand in the sorted order.
struct ExpertTileStep {
  ExpertStep step;
  void* sorted = nullptr;  // [n, hidden] bf16: x of each routed entry
  // Boxes of kTokenBox and of kTokenStep rows.
  CUtensorMap x[2];
  CUtensorMap sorted_x[2];
  CUtensorMap act[2];
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// A warp group's way from accumulators to rows of tokens in memory: kColumns of each, through
// shared memory, kChunk tokens at a time.
template <int kColumns>
struct TokenRows {
  static constexpr int kPitch = kColumns * 2 + 16;  // no two rows of a matrix in one bank
  static constexpr int kPieces = kColumns / 8;      // of 16 bytes
  static constexpr int kRowsAtOnce = kTurnGroup / kPieces;
  static constexpr int kChunk = kColumns == 64 ? 48 : 16;
  static_assert(kChunk * kPitch <= kTurnStaging);
};

#endif

// act[place] = silu(gate x) * up x
struct GateUpTiles : ExpertWork {
  static constexpr int kColumns = kTurnHalfRows;  // of inner, a slab
  const ExpertTileStep& tiles;

  __device__ int inner() const { return p.hidden_size; }
  static constexpr int kSecondMap = kUpMap - kGateMap;
  static constexpr int kSecondRow = 0;
  __device__ TurnWeights weights(int item) const {
    return {part(item).matrices.maps + kGateMap, item % slabs * kColumns};
  }
  __device__ TurnTokens tokens(int item) const {
    const ExpertPart& t = part(item);
    if (t.first < p.num_entries) return {tiles.sorted_x, t.first, t.count};
    return {tiles.x, (t.first - p.num_entries) % p.num_tokens, t.count};
  }

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  template <int kTokens>
  __device__ void finish(int item, const float (&acc)[2][kTokens / 2], std::uint32_t staging,
                         int barrier) const {
    using Rows = TokenRows<kColumns>;
    const ExpertPart& t = part(item);
    const int thread = static_cast<int>(threadIdx.x) % kTurnGroup;
    const int lane = thread % kWarp;
    const int piece = thread % Rows::kPieces;
    const int column = item % slabs * kColumns + piece * 8;
    const int count = column < p.inner ? t.count : 0;
    auto* to = static_cast<__nv_bfloat16*>(p.act) +
               static_cast<std::size_t>(t.first + thread / Rows::kPieces) * p.inner + column;
    const std::uint32_t from =
        staging + static_cast<std::uint32_t>(thread / Rows::kPieces * Rows::kPitch + piece * 16);
    const std::uint32_t mine =
        staging + static_cast<std::uint32_t>((lane / 16 * 8 + lane % 8) * Rows::kPitch +
                                             thread / kWarp * 32 + lane / 8 % 2 * 16);
    const auto values = [&](int i) {
      return pack_pair(silu(acc[0][i]) * acc[1][i], silu(acc[0][i + 1]) * acc[1][i + 1]);
    };
#pragma unroll
    for (int first = 0; first < kTokens; first += Rows::kChunk) {
      const int tokens = min(kTokens - first, Rows::kChunk);
      hopper::named_barrier(barrier, kTurnGroup);
#pragma unroll
      for (int i = 0; i < tokens; i += 16) {
        const int j = (first + i) / 2;
        hopper::store_transposed(mine + static_cast<std::uint32_t>(i * Rows::kPitch), values(j),
                                 values(j + 2), values(j + 4), values(j + 6));
      }
      hopper::named_barrier(barrier, kTurnGroup);
#pragma unroll
      for (int i = 0; i < tokens; i += Rows::kRowsAtOnce) {
        if (first + i + thread / Rows::kPieces >= count) continue;
        uint4 packed;
        hopper::load_shared(packed, from + static_cast<std::uint32_t>(i * Rows::kPitch));
        *reinterpret_cast<uint4*>(to + static_cast<std::size_t>(first + i) * p.inner) = packed;
      }
    }
  }
#endif
};

// given[entry] = down act
struct DownTiles : ExpertWork {
  const ExpertTileStep& tiles;

  __device__ int inner() const { return p.inner; }
  static constexpr int kSecondMap = 0;
  static constexpr int kSecondRow = kTurnHalfRows;
  __device__ TurnWeights weights(int item) const {
    return {part(item).matrices.maps + kDownMap, item % slabs * kTurnWeights};
  }
  __device__ TurnTokens tokens(int item) const {
    const ExpertPart& t = part(item);
    return {tiles.act, t.first, t.count};
  }

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  template <int kTokens>
  __device__ void finish(int item, const float (&acc)[2][kTokens / 2], std::uint32_t staging,
                         int barrier) const {
    using Rows = TokenRows<kTurnWeights>;
    const ExpertPart& t = part(item);
    const int thread = static_cast<int>(threadIdx.x) % kTurnGroup;
    const int lane = thread % kWarp;
    const int piece = thread % Rows::kPieces;
    const int column = item % slabs * kTurnWeights + piece * 8;
    const int count = column < p.hidden_size ? t.count : 0;
    auto* to = static_cast<__nv_bfloat16*>(p.given) + column;
    const std::uint32_t from =
        staging + static_cast<std::uint32_t>(thread / Rows::kPieces * Rows::kPitch + piece * 16);
    const std::uint32_t mine =
        staging + static_cast<std::uint32_t>((lane / 16 * 8 + lane % 8) * Rows::kPitch +
                                             thread / kWarp * 32 + lane / 8 % 2 * 16);
    const std::uint32_t entries = staging + kTurnStaging;
    hopper::named_barrier(barrier, kTurnGroup);
    for (int i = thread; i < t.count; i += kTurnGroup) {
      hopper::store_shared(entries + static_cast<std::uint32_t>(i * 4),
                           __int_as_float(entry(t.first + i)));
    }
#pragma unroll
    for (int first = 0; first < kTokens; first += Rows::kChunk) {
      if (first > 0) hopper::named_barrier(barrier, kTurnGroup);
      const int j = first / 2;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const auto values = [&](int i) { return pack_pair(acc[half][i], acc[half][i + 1]); };
        hopper::store_transposed(mine + static_cast<std::uint32_t>(half * 2 * kTurnHalfRows),
                                 values(j), values(j + 2), values(j + 4), values(j + 6));
      }
      hopper::named_barrier(barrier, kTurnGroup);
#pragma unroll
      for (int i = 0; i < Rows::kChunk; i += Rows::kRowsAtOnce) {
        const int token = first + i + thread / Rows::kPieces;
        if (token >= count) continue;
        uint4 packed;
        float place;
        hopper::load_shared(packed, from + static_cast<std::uint32_t>(i * Rows::kPitch));
        hopper::load_shared(place, entries + static_cast<std::uint32_t>(token * 4));
        *reinterpret_cast<uint4*>(to + static_cast<std::size_t>(__float_as_int(place)) *
                                           p.hidden_size) = packed;
      }
    }
  }
#endif
};

// Slabs of a part: whole clusters of them.
__device__ inline int turn_slabs(int size, int columns) {
  const int slabs = (size + columns - 1) / columns;
  return (slabs + kTurnCluster - 1) / kTurnCluster * kTurnCluster;
}

template <typename Shape>
__global__ void __launch_bounds__(kTurnThreads, 1)
    tile_gate_up_kernel(const __grid_constant__ ExpertTileStep t) {
  extern __shared__ char tile_memory[];
  const ExpertStep& p = t.step;
  await_previous_launch();
  let_next_launch_begin();
  multiply_turn_tiles<Shape>(
      GateUpTiles{{p, ExpertOrder(p), turn_slabs(p.inner, GateUpTiles::kColumns)}, t}, tile_memory);
}

template <typename Shape>
__global__ void __launch_bounds__(kTurnThreads, 1)
    tile_down_kernel(const __grid_constant__ ExpertTileStep t) {
  extern __shared__ char tile_memory[];
  const ExpertStep& p = t.step;
  await_previous_launch();
  let_next_launch_begin();
  multiply_turn_tiles<Shape>(
      DownTiles{{p, ExpertOrder(p), turn_slabs(p.hidden_size, kTurnWeights)}, t}, tile_memory);
}

constexpr int kSortedRowsOfBlock = 8;

// sorted[i] = x of the entry at place i. A warp has a row.
__global__ void __launch_bounds__(kSortedRowsOfBlock* kWarp)
    sort_rows_kernel(const __grid_constant__ ExpertTileStep t) {
  await_previous_launch();
  let_next_launch_begin();
  const ExpertStep& p = t.step;
  const int row =
      static_cast<int>(blockIdx.x) * kSortedRowsOfBlock + static_cast<int>(threadIdx.x) / kWarp;
  if (row >= p.num_entries) return;
  const int pieces = p.hidden_size / 8;
  const auto* from = static_cast<const uint4*>(p.x) +
                     static_cast<std::size_t>(p.order[row] / p.experts_per_token) * pieces;
  auto* to = static_cast<uint4*>(t.sorted) + static_cast<std::size_t>(row) * pieces;
  constexpr int kAtOnce = 8;
  for (int c = static_cast<int>(threadIdx.x) % kWarp; c < pieces; c += kAtOnce * kWarp) {
    uint4 values[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (c + i * kWarp < pieces) values[i] = from[c + i * kWarp];
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (c + i * kWarp < pieces) to[c + i * kWarp] = values[i];
    }
  }
}

}  // namespace latentd::cuda
