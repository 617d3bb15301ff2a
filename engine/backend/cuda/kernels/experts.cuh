// experts: entries (pairs of token and expert) sorted by expert on the device, grouped products,
// and a sum in index order.
#pragma once

#include <cstddef>

#include "engine/backend/cuda/expert_params.h"
#include "engine/backend/cuda/expert_policy.h"
#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/cuda/kernels/product_tile.cuh"

namespace latentd::cuda {

static_assert(kExpertTile == kTile);
constexpr int kSortThreads = 256;

// Grid: experts.
__global__ void count_entries_kernel(ExpertStep p) {
  __shared__ int shared[kBlockShared];
  const int expert = static_cast<int>(blockIdx.x);
  int count = 0;
  for (int i = threadIdx.x; i < p.num_entries; i += kSortThreads) {
    count += p.expert_ids[i] == expert ? 1 : 0;
  }
  count = block_reduce(count, Sum{}, shared);
  if (threadIdx.x == 0) p.counts[expert] = count;
}

// Places each expert's entries, in ascending order, behind those of the experts before it.
// Grid: experts.
__global__ void place_entries_kernel(ExpertStep p) {
  __shared__ int shared[kBlockShared];
  const int expert = static_cast<int>(blockIdx.x);
  int entries = 0;
  int tiles = 0;
  for (int e = threadIdx.x; e < expert; e += kSortThreads) {
    entries += p.counts[e];
    tiles += (p.counts[e] + kExpertTile - 1) / kExpertTile;
  }
  entries = block_reduce(entries, Sum{}, shared);
  tiles = block_reduce(tiles, Sum{}, shared);
  if (threadIdx.x == 0) {
    const int count = p.counts[expert];
    p.first_entry[expert] = entries;
    p.first_tile[expert] = tiles;
    if (expert == p.num_experts - 1) {
      p.first_entry[expert + 1] = entries + count;
      p.first_tile[expert + 1] = tiles + (count + kExpertTile - 1) / kExpertTile;
    }
  }
  for (int begin = 0; begin < p.num_entries; begin += kSortThreads) {
    const int i = begin + static_cast<int>(threadIdx.x);
    const int mine = i < p.num_entries && p.expert_ids[i] == expert ? 1 : 0;
    int total = 0;
    const int before = block_exclusive_sum(mine, shared, total);
    if (mine != 0) p.order[entries + before] = i;
    entries += total;
  }
}

// The expert and the entries of this block's tile.
struct ExpertTile {
  int expert = -1;  // -1: no such tile
  int first = 0;    // of p.order
  int count = 0;

  __device__ ExpertTile(const ExpertStep& p, int tile) {
    if (tile >= p.first_tile[p.num_experts]) return;
    int low = 0;  // the last expert whose first tile is not after this one
    int high = p.num_experts - 1;
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (p.first_tile[middle] <= tile) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    expert = low;
    first = p.first_entry[expert] + (tile - p.first_tile[expert]) * kExpertTile;
    count = min(kExpertTile, p.first_entry[expert + 1] - first);
  }
};

// act[entry] = silu(gate x) * up x. Grid: (column tiles of inner, expert tiles).
__global__ void __launch_bounds__(kTileThreads) expert_gate_up_kernel(ExpertStep p) {
  __shared__ TileStorage s;
  const ExpertTile tile(p, static_cast<int>(blockIdx.y));
  if (tile.expert < 0) return;
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

// given[entry] = down act. Grid: (column tiles of hidden, expert tiles).
__global__ void __launch_bounds__(kTileThreads) expert_down_kernel(ExpertStep p) {
  __shared__ TileStorage s;
  const ExpertTile tile(p, static_cast<int>(blockIdx.y));
  if (tile.expert < 0) return;
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
                   static_cast<std::size_t>(p.inner),
                   first_column,
                   p.hidden_size,
                   false},
                  p.inner, s);
  for (int i = 0; i < kTileValues; ++i) {
    for (int j = 0; j < kTileValues; ++j) {
      const int row = TileAccumulator::row(i);
      const int column = first_column + TileAccumulator::column(j);
      if (row >= tile.count || column >= p.hidden_size) continue;
      p.given[static_cast<std::size_t>(p.order[tile.first + row]) * p.hidden_size + column] =
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
      sum += p.expert_weights[entry] * p.given[entry * p.hidden_size + c];
    }
    if (p.shared != nullptr) sum += p.shared[t * p.hidden_size + c];
    hidden.set(t * p.hidden_size + c, sum);
  }
}

}  // namespace latentd::cuda
