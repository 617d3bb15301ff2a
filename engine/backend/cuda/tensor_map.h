// Tensor maps: how Hopper's copy engine finds boxes of a matrix.
//
// Contract: plain host code; the driver is asked for its function on first use.
#pragma once

#include <cuda.h>

#include <array>
#include <cstdint>

namespace latentd::cuda {

// A row-major bf16 matrix in device memory, aligned to 16 bytes, read in boxes of `box_rows`
// rows of `box_columns` columns (at most 256, and 64), swizzled by 128 bytes. Elements outside read
// as zeros. Rows are `row_stride` columns apart, 0: `columns`. False when the driver refuses.
bool make_tensor_map(CUtensorMap& map, const void* data, std::int64_t columns, std::int64_t rows,
                     std::int32_t box_columns, std::int32_t box_rows, std::int64_t row_stride = 0);

// A tensor of up to four dimensions, the first contiguous, swizzled by 128 bytes. Elements outside
// read as zeros.
struct TensorMapParams {
  const void* data = nullptr;  // aligned to 16 bytes
  CUtensorMapDataType type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  CUtensorMapL2promotion promotion = CU_TENSOR_MAP_L2_PROMOTION_L2_128B;
  int rank = 0;
  std::array<std::int64_t, 4> sizes{};    // elements
  std::array<std::int64_t, 3> strides{};  // bytes from one to the next of dimensions 1 ..
  std::array<std::int64_t, 4> box{};      // elements of a copy
};
bool make_tensor_map(CUtensorMap& map, const TensorMapParams& p);

}  // namespace latentd::cuda
