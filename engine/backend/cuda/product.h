// A batch of matrix products in terms that both cuBLASLt and our own kernel understand.
//
//   out[b, i, j] (+)= sum_k x[b, i, k] * w[b, j, k]
//
// Contract: plain data; pointers are device memory, strides count elements.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace latentd::cuda {

struct Product {
  const void* x = nullptr;  // [batch, rows, inner], inner contiguous
  const void* w = nullptr;  // [batch, columns, inner], or [batch, inner, columns]
  void* out = nullptr;      // [batch, rows, columns], columns contiguous
  DType x_dtype = DType::kF32;
  DType w_dtype = DType::kF32;
  DType out_dtype = DType::kF32;
  bool w_columns_contiguous = false;  // w is [batch, inner, columns]
  bool accumulate = false;
  std::int32_t rows = 0;
  std::int32_t columns = 0;
  std::int32_t inner = 0;
  std::int32_t batch = 1;
  std::int64_t x_row_stride = 0;
  std::int64_t w_row_stride = 0;
  std::int64_t out_row_stride = 0;
  std::int64_t x_batch_stride = 0;
  std::int64_t w_batch_stride = 0;
  std::int64_t out_batch_stride = 0;
};

}  // namespace latentd::cuda
