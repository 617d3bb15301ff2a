// A 64 x 64 tile of a product of fp32 or bf16 matrices, accumulated in fp32 without tensor cores.
//
// The portable fallback: any dtypes, any strides, any alignment. 256 threads hold 4 x 4 values
// each; every value sums over k in ascending order, whatever else is in the step.
#pragma once

#include <cstddef>

#include "engine/backend/cuda/kernels/elements.cuh"

namespace latentd::cuda {

constexpr int kTile = 64;
constexpr int kTileDepth = 16;
constexpr int kTileThreads = 256;
constexpr int kTileValues = 4;  // a side of what one thread holds
constexpr std::size_t kNoRow = ~std::size_t{0};

struct TileStorage {
  float x[kTileDepth][kTile + 1];
  float w[kTileDepth][kTile + 1];
  std::size_t x_rows[kTile];  // first element of each row of x, or kNoRow
};

struct TileAccumulator {
  float value[kTileValues][kTileValues] = {};

  __device__ static int row(int i) { return static_cast<int>(threadIdx.x) / 16 + 16 * i; }
  __device__ static int column(int j) { return static_cast<int>(threadIdx.x) % 16 + 16 * j; }
};

// The columns [first, first + 64) of w, of which `columns` exist.
struct TileWeights {
  ConstElements elements;
  std::size_t row_stride;
  int first;
  int columns;
  bool columns_contiguous;
};

// acc += x w^T over `inner` values of k. REQUIRES: s.x_rows is filled, and a barrier has passed.
__device__ inline void accumulate_tile(TileAccumulator& acc, const ConstElements& x,
                                       const TileWeights& w, int inner, TileStorage& s) {
  for (int k0 = 0; k0 < inner; k0 += kTileDepth) {
    for (int e = threadIdx.x; e < kTile * kTileDepth; e += kTileThreads) {
      const int k = e % kTileDepth;
      const int row = e / kTileDepth;
      const bool inside = k0 + k < inner && s.x_rows[row] != kNoRow;
      s.x[k][row] = inside ? x[s.x_rows[row] + k0 + k] : 0.0F;
    }
    for (int e = threadIdx.x; e < kTile * kTileDepth; e += kTileThreads) {
      const int k = w.columns_contiguous ? e / kTile : e % kTileDepth;
      const int column = w.columns_contiguous ? e % kTile : e / kTileDepth;
      const bool inside = k0 + k < inner && w.first + column < w.columns;
      const auto major = static_cast<std::size_t>(w.columns_contiguous ? k0 + k : w.first + column);
      const auto minor = static_cast<std::size_t>(w.columns_contiguous ? w.first + column : k0 + k);
      s.w[k][column] = inside ? w.elements[major * w.row_stride + minor] : 0.0F;
    }
    __syncthreads();
    for (int k = 0; k < kTileDepth; ++k) {
      float xv[kTileValues];
      float wv[kTileValues];
#pragma unroll
      for (int i = 0; i < kTileValues; ++i) {
        xv[i] = s.x[k][TileAccumulator::row(i)];
        wv[i] = s.w[k][TileAccumulator::column(i)];
      }
#pragma unroll
      for (int i = 0; i < kTileValues; ++i) {
#pragma unroll
        for (int j = 0; j < kTileValues; ++j) {
          acc.value[i][j] = fmaf(xv[i], wv[j], acc.value[i][j]);
        }
      }
    }
    __syncthreads();
  }
}

}  // namespace latentd::cuda
