// experts of any dtype, shape and alignment: grouped products without tensor cores, and a sum in
// index order. The portable fallback; shared experts are complete.
#pragma once

#include <cstddef>

#include "engine/backend/cuda/expert_params.h"
#include "engine/backend/cuda/expert_policy.h"
#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/cuda/kernels/product_tile.cuh"

namespace latentd::cuda {

static_assert(kGenericPart == kTile);

// The entries of this block; none when there are fewer parts than blocks.
__device__ inline ExpertPart part_of_block(const ExpertStep& p) {
  const int part = static_cast<int>(blockIdx.y);
  return part < *p.num_parts ? p.parts[part] : ExpertPart{};
}

// act[entry] = silu(gate x) * up x. Grid: (column tiles of inner, expert parts).
__global__ void __launch_bounds__(kTileThreads) expert_gate_up_kernel(ExpertStep p) {
  __shared__ TileStorage s;
  const ExpertPart tile = part_of_block(p);
  if (tile.count == 0) return;
  const int first_column = static_cast<int>(blockIdx.x) * kTile;
  if (threadIdx.x < kTile) {
    const int row = static_cast<int>(threadIdx.x);
    s.x_rows[row] =
        row < tile.count
            ? static_cast<std::size_t>(p.order[tile.first + row] / p.experts_per_token) *
                  p.hidden_size
            : kNoRow;
  }
  __syncthreads();
  const ExpertMatrices w = p.experts[tile.expert];
  const ConstElements x{p.x, p.activation};
  const auto stride = static_cast<std::size_t>(p.hidden_size);
  TileAccumulator gate;
  accumulate_tile(gate, x, {{w.gate, p.weights}, stride, first_column, p.inner, false},
                  p.hidden_size, s);
  TileAccumulator up;
  accumulate_tile(up, x, {{w.up, p.weights}, stride, first_column, p.inner, false}, p.hidden_size,
                  s);
  const Elements act{p.act, p.activation};
  for (int i = 0; i < kTileValues; ++i) {
    for (int j = 0; j < kTileValues; ++j) {
      const int row = TileAccumulator::row(i);
      const int column = first_column + TileAccumulator::column(j);
      if (row >= tile.count || column >= p.inner) continue;
      act.set(static_cast<std::size_t>(p.order[tile.first + row]) * p.inner + column,
              silu(gate.value[i][j]) * up.value[i][j]);
    }
  }
}

// given[entry] = down act. Grid: (column tiles of hidden, expert parts).
__global__ void __launch_bounds__(kTileThreads) expert_down_kernel(ExpertStep p) {
  __shared__ TileStorage s;
  const ExpertPart tile = part_of_block(p);
  if (tile.count == 0) return;
  const int first_column = static_cast<int>(blockIdx.x) * kTile;
  if (threadIdx.x < kTile) {
    const int row = static_cast<int>(threadIdx.x);
    s.x_rows[row] =
        row < tile.count ? static_cast<std::size_t>(p.order[tile.first + row]) * p.inner : kNoRow;
  }
  __syncthreads();
  TileAccumulator down;
  accumulate_tile(down, {p.act, p.activation},
                  {{p.experts[tile.expert].down, p.weights},
                   static_cast<std::size_t>(p.experts[tile.expert].down_stride),
                   first_column,
                   p.hidden_size,
                   false},
                  p.inner, s);
  for (int i = 0; i < kTileValues; ++i) {
    for (int j = 0; j < kTileValues; ++j) {
      const int row = TileAccumulator::row(i);
      const int column = first_column + TileAccumulator::column(j);
      if (row >= tile.count || column >= p.hidden_size) continue;
      static_cast<float*>(
          p.given)[static_cast<std::size_t>(p.order[tile.first + row]) * p.hidden_size + column] =
          down.value[i][j];
    }
  }
}

// hidden[t] += sum of weight * given, experts in index order, + shared[t] when there is one.
// Grid: tokens.
__global__ void combine_experts_kernel(ExpertStep p) {
  const std::size_t t = blockIdx.x;
  const Elements hidden{p.hidden, p.activation};
  for (int c = threadIdx.x; c < p.hidden_size; c += blockDim.x) {
    float sum = hidden[t * p.hidden_size + c];
    for (int k = 0; k < p.experts_per_token; ++k) {
      const std::size_t entry = t * p.experts_per_token + k;
      sum +=
          p.expert_weights[entry] * static_cast<const float*>(p.given)[entry * p.hidden_size + c];
    }
    if (p.shared != nullptr) sum += p.shared[t * p.hidden_size + c];
    hidden.set(t * p.hidden_size + c, sum);
  }
}

}  // namespace latentd::cuda
