// Dense products of many rows in bf16 on warp-group tensor cores, with the bits of product_stream.
#pragma once

#include <cstddef>

#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/cuda/kernels/weight_tiles.cuh"
#include "engine/backend/cuda/product.h"

namespace latentd::cuda {

// What the kernel is given: a product of one matrix, and the map of its weights.
struct MappedProduct {
  Product product;
  CUtensorMap map;
};

// Items: (slab of columns, tile of rows), tiles of one slab side by side.
struct ProductTiles {
  const Product& p;
  const CUtensorMap& map;
  int slabs;
  int tiles;

  __device__ int num_items() const { return slabs * tiles; }
  __device__ int inner() const { return p.inner; }
  __device__ int first_row(int item) const { return item % tiles * kTileTokens; }
  __device__ int first_column(int item) const { return item / tiles * kTileWeights; }
  __device__ int num_tokens(int item) const { return p.rows - first_row(item); }

  __device__ void locate(int item, TileTokens& tokens) const {
    const char* x = static_cast<const char*>(p.x) + TileTokens::piece_bytes();
#pragma unroll
    for (int i = 0; i < kTileTokenCopies; ++i) {
      const int row = first_row(item) + TileTokens::row(i);
      tokens.rows[i] = row < p.rows ? x + row * p.x_row_stride * 2 : nullptr;
    }
  }

  __device__ TileBoxes boxes(int item) const {
    return {{&map, &map}, {first_column(item), first_column(item) + kTileBoxRows}};
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
      const auto at = static_cast<std::size_t>(row * p.out_row_stride + column);
      out.set(at, acc[i] + (p.accumulate ? out[at] : 0.0F));
    }
  }
};

__global__ void __launch_bounds__(kTilesThreads, 1)
    product_tiles_kernel(const __grid_constant__ MappedProduct mapped) {
  extern __shared__ char tile_memory[];
  const Product& p = mapped.product;
  multiply_weight_tiles(ProductTiles{p, mapped.map, (p.columns + kTileWeights - 1) / kTileWeights,
                                     (p.rows + kTileTokens - 1) / kTileTokens},
                        tile_memory);
}

}  // namespace latentd::cuda
