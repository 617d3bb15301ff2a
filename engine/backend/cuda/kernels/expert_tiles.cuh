// experts of many tokens in bf16 on warp-group tensor cores: gate and up with the activation, down.
#pragma once

#include <cstddef>

#include "engine/backend/cuda/kernels/dependent_launch.cuh"
#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/cuda/kernels/expert_work.cuh"
#include "engine/backend/cuda/kernels/weight_tiles.cuh"

namespace latentd::cuda {

// act[entry] = silu(gate x) * up x. Eight rows of gate alternate with the eight rows of up that
// belong to them, so that one thread holds both.
struct GateUpTiles : ExpertWork {
  static constexpr int kColumns = kTileWeights / 2;  // of inner, a slab

  __device__ int inner() const { return p.hidden_size; }

  __device__ void locate(int item, TileRows& rows) const {
    const ExpertPart& t = part(item);
    const ExpertMatrices& w = t.matrices;
    const int piece = TileRows::piece_bytes();
#pragma unroll
    for (int i = 0; i < kTileTokenCopies; ++i) {
      const char* row = x_row(t, TileRows::row(i));
      rows.tokens[i] = row == nullptr ? nullptr : row + piece;
    }
#pragma unroll
    for (int i = 0; i < kTileWeightCopies; ++i) {
      const int row = TileRows::row(i);
      const int column = min(item % slabs * kColumns + row / 16 * 8 + row % 8, p.inner - 1);
      const void* matrix = row % 16 < 8 ? w.gate : w.up;
      rows.weights[i] = static_cast<const char*>(matrix) +
                        static_cast<std::size_t>(column) * p.hidden_size * 2 + piece;
    }
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
        const float* gate = acc + 8 * j + 2 * half;
        const float* up = gate + 4;
        *reinterpret_cast<__nv_bfloat162*>(to + column) =
            __floats2bfloat162_rn(silu(gate[0]) * up[0], silu(gate[1]) * up[1]);
      }
    }
  }
};

// given[entry] = down act.
struct DownTiles : ExpertWork {
  __device__ int inner() const { return p.inner; }

  __device__ void locate(int item, TileRows& rows) const {
    const ExpertPart& t = part(item);
    const ExpertMatrices& w = t.matrices;
    const int piece = TileRows::piece_bytes();
#pragma unroll
    for (int i = 0; i < kTileTokenCopies; ++i) {
      const char* row = act_row(t, TileRows::row(i));
      rows.tokens[i] = row == nullptr ? nullptr : row + piece;
    }
#pragma unroll
    for (int i = 0; i < kTileWeightCopies; ++i) {
      const int row = min(item % slabs * kTileWeights + TileRows::row(i), p.hidden_size - 1);
      rows.weights[i] = static_cast<const char*>(w.down) +
                        static_cast<std::size_t>(row) * w.down_stride * 2 + piece;
    }
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
