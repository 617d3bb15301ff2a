// Dense products of many rows in bf16 on warp-group tensor cores, with the bits of product_stream.
#pragma once

#include <cstddef>

#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/cuda/kernels/weight_tiles.cuh"
#include "engine/backend/cuda/product.h"

namespace latentd::cuda {

// Items: (matrix of the batch, slab of columns, tile of rows), tiles of one slab side by side.
struct ProductTiles {
  const Product& p;
  int slabs;
  int tiles;

  __device__ int num_items() const { return p.batch * slabs * tiles; }
  __device__ int inner() const { return p.inner; }
  __device__ int first_row(int item) const { return item % tiles * kTileTokens; }
  __device__ int first_column(int item) const { return item / tiles % slabs * kTileWeights; }
  __device__ std::int64_t batch(int item) const { return item / tiles / slabs; }
  __device__ int num_tokens(int item) const { return p.rows - first_row(item); }

  __device__ void locate(int item, TileRows& rows) const {
    const int piece = TileRows::piece_bytes();
    const char* w = static_cast<const char*>(p.w) + batch(item) * p.w_batch_stride * 2 + piece;
    const char* x = static_cast<const char*>(p.x) + batch(item) * p.x_batch_stride * 2 + piece;
#pragma unroll
    for (int i = 0; i < kTileTokenCopies; ++i) {
      const int row = first_row(item) + TileRows::row(i);
      rows.tokens[i] = row < p.rows ? x + row * p.x_row_stride * 2 : nullptr;
    }
#pragma unroll
    for (int i = 0; i < kTileWeightCopies; ++i) {
      const int column = min(first_column(item) + TileRows::row(i), p.columns - 1);
      rows.weights[i] = w + column * p.w_row_stride * 2;
    }
  }

  __device__ void finish(int item, int first_token, const float (&acc)[128]) const {
    const int thread = static_cast<int>(threadIdx.x) % kGroup;
    const Elements out{p.out, p.out_dtype};
#pragma unroll
    for (int i = 0; i < 128; ++i) {
      const int row =
          first_row(item) + first_token + thread / kWarp * 16 + thread % kWarp / 4 + i % 4 / 2 * 8;
      const int column = first_column(item) + i / 4 * 8 + thread % 4 * 2 + i % 2;
      if (row >= p.rows || column >= p.columns) continue;
      const auto at = static_cast<std::size_t>(batch(item) * p.out_batch_stride +
                                               row * p.out_row_stride + column);
      out.set(at, acc[i] + (p.accumulate ? out[at] : 0.0F));
    }
  }
};

__global__ void __launch_bounds__(kTilesThreads, 1)
    product_tiles_kernel(const __grid_constant__ Product p) {
  extern __shared__ char tile_memory[];
  multiply_weight_tiles(ProductTiles{p, (p.columns + kTileWeights - 1) / kTileWeights,
                                     (p.rows + kTileTokens - 1) / kTileTokens},
                        tile_memory);
}

}  // namespace latentd::cuda
