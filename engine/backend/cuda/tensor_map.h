// Tensor maps: how Hopper's copy engine finds boxes of a matrix.
//
// Contract: plain host code; the driver is asked for its function on first use.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace latentd::cuda {

// A row-major bf16 matrix in device memory, aligned to 16 bytes, read in boxes of `box_rows`
// rows of `box_columns` columns (at most 256, and 64), swizzled by 128 bytes. Elements outside read
// as zeros. Rows are `row_stride` columns apart, 0: `columns`. False when the driver refuses.
bool make_tensor_map(CUtensorMap& map, const void* data, std::int64_t columns, std::int64_t rows,
                     std::int32_t box_columns, std::int32_t box_rows, std::int64_t row_stride = 0);

}  // namespace latentd::cuda
