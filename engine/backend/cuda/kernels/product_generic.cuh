// A product of any dtypes, strides and alignment, without tensor cores.
#pragma once

#include <cstddef>

#include "engine/backend/cuda/kernels/product_tile.cuh"
#include "engine/backend/cuda/product.h"

namespace latentd::cuda {

__device__ inline ConstElements elements_from(const void* data, DType dtype, std::size_t first) {
  return {static_cast<const char*>(data) + first * dtype_size(dtype), dtype};
}

// Grid: (column tiles, row tiles, batch).
__global__ void __launch_bounds__(kTileThreads) product_kernel(Product p) {
  __shared__ TileStorage s;
  const auto batch = static_cast<std::size_t>(blockIdx.z);
  const int first_row = static_cast<int>(blockIdx.y) * kTile;
  const int first_column = static_cast<int>(blockIdx.x) * kTile;
  if (threadIdx.x < kTile) {
    const int row = first_row + static_cast<int>(threadIdx.x);
    s.x_rows[threadIdx.x] = row < p.rows ? static_cast<std::size_t>(row) * p.x_row_stride : kNoRow;
  }
  __syncthreads();
  TileAccumulator acc;
  accumulate_tile(
      acc, elements_from(p.x, p.x_dtype, batch * p.x_batch_stride),
      {elements_from(p.w, p.w_dtype, batch * p.w_batch_stride),
       static_cast<std::size_t>(p.w_row_stride), first_column, p.columns, p.w_columns_contiguous},
      p.inner, s);
  const Elements out{p.out, p.out_dtype};
  for (int i = 0; i < kTileValues; ++i) {
    for (int j = 0; j < kTileValues; ++j) {
      const int row = first_row + TileAccumulator::row(i);
      const int column = first_column + TileAccumulator::column(j);
      if (row >= p.rows || column >= p.columns) continue;
      const std::size_t at =
          batch * p.out_batch_stride + static_cast<std::size_t>(row) * p.out_row_stride + column;
      out.set(at, acc.value[i][j] + (p.accumulate ? out[at] : 0.0F));
    }
  }
}

}  // namespace latentd::cuda
