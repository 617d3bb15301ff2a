// experts of many tokens in bf16 on warp-group tensor cores: gate and up with the activation, down.
#pragma once

#include <cstddef>

#include "engine/backend/cuda/kernels/dependent_launch.cuh"
#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/cuda/kernels/expert_work.cuh"
#include "engine/backend/cuda/kernels/weight_tiles.cuh"

namespace latentd::cuda {

// act[entry] = silu(gate x) * up x. One box is of gate, the other of up, so that one thread holds
// the values that belong together.
struct GateUpTiles : ExpertWork {
  static constexpr bool kMapsInMemory = true;
  static constexpr int kColumns = kTileWeights / 2;  // of inner, a slab

  __device__ int inner() const { return p.hidden_size; }

  __device__ void locate(int item, TileTokens& tokens) const {
    const ExpertPart& t = part(item);
#pragma unroll
    for (int i = 0; i < kTileTokenCopies; ++i) {
      const char* row = x_row(t, TileTokens::row(i));
      tokens.rows[i] = row == nullptr ? nullptr : row + TileTokens::piece_bytes();
    }
  }

  __device__ TileBoxes boxes(int item) const {
    const CUtensorMap* maps = part(item).matrices.maps;
    const int first = item % slabs * kColumns;
    return {{maps + kGateMap, maps + kUpMap}, {first, first}};
  }

  __device__ void finish(int item, int first_token, const float (&acc)[128]) const {
    const ExpertPart& t = part(item);
    const int thread = static_cast<int>(threadIdx.x) % kGroup;
    const int first_column = item % slabs * kColumns + thread % 4 * 2;
    auto* act = static_cast<__nv_bfloat16*>(p.act);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first_token + thread / kWarp * 16 + thread % kWarp / 4 + half * 8;
      if (row >= t.count) continue;
      __nv_bfloat16* to = act + static_cast<std::size_t>(entry(t.first + row)) * p.inner;
#pragma unroll
      for (int j = 0; j < kColumns / 8; ++j) {
        const int column = first_column + j * 8;
        if (column >= p.inner) continue;
        const float* gate = acc + 4 * j + 2 * half;
        const float* up = gate + 4 * (kColumns / 8);
        *reinterpret_cast<__nv_bfloat162*>(to + column) =
            __floats2bfloat162_rn(silu(gate[0]) * up[0], silu(gate[1]) * up[1]);
      }
    }
  }
};

// given[entry] = down act.
struct DownTiles : ExpertWork {
  static constexpr bool kMapsInMemory = true;

  __device__ int inner() const { return p.inner; }

  __device__ void locate(int item, TileTokens& tokens) const {
    const ExpertPart& t = part(item);
#pragma unroll
    for (int i = 0; i < kTileTokenCopies; ++i) {
      const char* row = act_row(t, TileTokens::row(i));
      tokens.rows[i] = row == nullptr ? nullptr : row + TileTokens::piece_bytes();
    }
  }

  __device__ TileBoxes boxes(int item) const {
    const CUtensorMap* maps = part(item).matrices.maps;
    const int first = item % slabs * kTileWeights;
    return {{maps + kDownMap, maps + kDownMap}, {first, first + kTileBoxRows}};
  }

  __device__ void finish(int item, int first_token, const float (&acc)[128]) const {
    const ExpertPart& t = part(item);
    const int thread = static_cast<int>(threadIdx.x) % kGroup;
    const int first_column = item % slabs * kTileWeights + thread % 4 * 2;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first_token + thread / kWarp * 16 + thread % kWarp / 4 + half * 8;
      if (row >= t.count) continue;
      __nv_bfloat16* to = static_cast<__nv_bfloat16*>(p.given) +
                          static_cast<std::size_t>(entry(t.first + row)) * p.hidden_size;
#pragma unroll
      for (int j = 0; j < kTileWeights / 8; ++j) {
        const int column = first_column + j * 8;
        if (column >= p.hidden_size) continue;
        *reinterpret_cast<__nv_bfloat162*>(to + column) =
            __floats2bfloat162_rn(acc[4 * j + 2 * half], acc[4 * j + 2 * half + 1]);
      }
    }
  }
};

__global__ void __launch_bounds__(kTilesThreads, 1)
    tile_gate_up_kernel(const __grid_constant__ ExpertStep p) {
  extern __shared__ char tile_memory[];
  await_previous_launch();
  let_next_launch_begin();
  constexpr int kColumns = GateUpTiles::kColumns;
  multiply_weight_tiles(GateUpTiles{{p, ExpertOrder(p), (p.inner + kColumns - 1) / kColumns}},
                        tile_memory);
}

__global__ void __launch_bounds__(kTilesThreads, 1)
    tile_down_kernel(const __grid_constant__ ExpertStep p) {
  extern __shared__ char tile_memory[];
  await_previous_launch();
  let_next_launch_begin();
  multiply_weight_tiles(
      DownTiles{{p, ExpertOrder(p), (p.hidden_size + kTileWeights - 1) / kTileWeights}},
      tile_memory);
}

}  // namespace latentd::cuda
