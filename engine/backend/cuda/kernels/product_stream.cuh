// Dense products in bf16 through the weight stream: one order of k for every number of rows.
#pragma once

#include <cstddef>

#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/cuda/kernels/weight_stream.cuh"
#include "engine/backend/cuda/product.h"

namespace latentd::cuda {

// Items: (matrix of the batch, slab of columns, tile of rows), tiles of one slab side by side. A
// narrow matrix is cut into slabs of half the rows, so that all multiprocessors have some.
template <typename Shape>
struct ProductWork {
  const Product& p;
  int slab_columns;
  int slabs;
  int tiles;

  __device__ int num_items() const { return p.batch * slabs * tiles; }
  __device__ int inner() const { return p.inner; }
  __device__ int first_row(int item) const { return item % tiles * Shape::kTokenRows; }
  __device__ int first_column(int item) const { return item / tiles % slabs * slab_columns; }
  __device__ std::int64_t batch(int item) const { return item / tiles / slabs; }
  __device__ int num_tokens(int item) const { return p.rows - first_row(item); }

  __device__ void locate(int item, StreamRows<Shape>& rows) const {
    const int piece = static_cast<int>(threadIdx.x) % Shape::kPieces * kPieceBytes;
    const char* w = static_cast<const char*>(p.w) + batch(item) * p.w_batch_stride * 2 + piece;
    const char* x = static_cast<const char*>(p.x) + batch(item) * p.x_batch_stride * 2 + piece;
#pragma unroll
    for (int i = 0; i < Shape::kWeightCopies; ++i) {
      const int row = StreamRows<Shape>::row(i);
      const int column = first_column(item) + row;
      rows.weights[i] =
          row < slab_columns && column < p.columns ? w + column * p.w_row_stride * 2 : nullptr;
    }
#pragma unroll
    for (int i = 0; i < Shape::kTokenCopies; ++i) {
      const int row = first_row(item) + StreamRows<Shape>::row(i);
      rows.tokens[i] = row < p.rows ? x + row * p.x_row_stride * 2 : nullptr;
    }
  }

  __device__ void finish(int item, const StreamAccumulator<Shape>& acc) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const Elements out{p.out, p.out_dtype};
#pragma unroll
    for (int n = 0; n < Shape::kTokens; ++n) {
#pragma unroll
      for (int m = 0; m < Shape::kWeights; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int row = first_row(item) + n * 8 + lane % 4 * 2 + i % 2;
          const int in_slab = m * 16 + lane / 4 + i / 2 * 8;
          const int column = first_column(item) + in_slab;
          if (row >= p.rows || in_slab >= slab_columns || column >= p.columns) continue;
          const auto at = static_cast<std::size_t>(batch(item) * p.out_batch_stride +
                                                   row * p.out_row_stride + column);
          out.set(at, acc[m][n][i] + (p.accumulate ? out[at] : 0.0F));
        }
      }
    }
  }
};

// Slabs a multiprocessor, below which they are halved.
constexpr unsigned kFewSlabs = 4;

template <typename Shape>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    product_stream_kernel(const __grid_constant__ Product p) {
  extern __shared__ __align__(128) char stream_memory[];
  constexpr int kRows = Shape::kTokenRows;
  const int tiles = (p.rows + kRows - 1) / kRows;
  const int full_slabs = (p.columns + Shape::kWeightRows - 1) / Shape::kWeightRows;
  const bool halve = Shape::kTokens == 1 && p.batch * full_slabs * tiles < kFewSlabs * gridDim.x;
  const int slab_columns = halve ? Shape::kWeightRows / 2 : Shape::kWeightRows;
  stream_weights<Shape>(
      ProductWork<Shape>{p, slab_columns, (p.columns + slab_columns - 1) / slab_columns, tiles},
      stream_memory);
}

}  // namespace latentd::cuda
