// The two matrix kernels that all of the CPU backend's products are made of.
//
// Both compute every output element by one fixed chain of operations over k, whatever rows or
// columns share the call: vectors of the processor's width, one accumulator an element, tail padded
// with zeros, one fixed reduction. So an output's bits depend on its own inputs and the instruction
// set alone, never on the batch, the chunking or the threads (DESIGN rule 4).
//
//   dot:   out[i][j] (+)= scale_i * sum_k x[i][k] * w[j][k]     weights as checkpoints store them
//   axpy:  out[i][j] = keep_i * out[i][j] + sum_k x[i][k] * w[k][j], k ascending
//
// Contract: x and out are fp32; matrices fp32 or bf16, aligned to 2 bytes; out overlaps nothing.
// Thread-safe. Dispatched at run time to AVX-512, AVX2, NEON or plain code (Highway).
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace latentd::cpu {

// Rows of a matrix: evenly spaced, or one pointer each.
struct MatrixRows {
  const void* base = nullptr;
  std::size_t row_bytes = 0;
  const void* const* rows = nullptr;  // row i starts at rows[i] when set
  DType dtype = DType::kF32;
};

struct DotProduct {
  const float* const* x = nullptr;  // [m] rows of k elements
  float* const* out = nullptr;      // [m] rows
  const float* scale = nullptr;     // [m]; null: 1
  std::int32_t out_column = 0;      // w's row j gives out[i][out_column + j]
  std::int32_t m = 0;
  std::int32_t n = 0;
  std::int32_t k = 0;
  bool accumulate = false;
  MatrixRows w;  // [n] rows of k elements
};

struct AxpyProduct {
  const float* const* x = nullptr;  // [m] rows of k elements
  float* const* out = nullptr;      // [m] rows of n elements
  const float* keep = nullptr;      // [m]; null: out is not read
  std::int32_t m = 0;
  std::int32_t n = 0;
  std::int32_t k = 0;
  MatrixRows w;  // [k] rows of n elements
};

void multiply_dot(const DotProduct& product);
void multiply_axpy(const AxpyProduct& product);

}  // namespace latentd::cpu
