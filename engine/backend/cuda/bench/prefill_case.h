// One shape of prefill attention on the device, filled with random values, and its results in
// double precision.
//
// Contract: used by one thread; ends the process when memory is short.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/backend/cuda/cuda_context.h"
#include "engine/backend/op_params.h"

namespace latentd::cuda {

struct PrefillShape {
  std::int32_t heads = 0;
  std::int32_t new_tokens = 0;  // of each row
  std::int32_t cached = 0;
  std::int32_t rows = 1;
};

MlaGeometry deepseek_geometry(std::int32_t heads);

class PrefillCase {
 public:
  PrefillCase(CudaContext& context, const PrefillShape& shape);

  const PrefillShape& shape() const { return shape_; }
  // Writes into `out`.
  ExpandedAttentionParams params() const;
  // Of the product of queries and the keys that they see.
  double pairs() const;
  // `count` random bf16 values into device memory.
  const void* fill(void* device, std::size_t count) const;
  // ||out - expected|| / ||expected|| over a sample of (token, head).
  double relative_error() const;

 private:
  // Of one token and head, [v].
  std::vector<double> expected(std::int32_t token, std::int32_t head) const;
  template <typename T>
  T* device(const std::vector<T>& values);

  CudaContext& context_;
  PrefillShape shape_;
  MlaGeometry geometry_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::vector<std::uint16_t> q_;  // bf16, as all of these
  std::vector<std::uint16_t> kv_b_;
  std::vector<std::uint16_t> pool_;
  std::vector<std::int32_t> table_;
  std::vector<RowView> rows_;
  ExpandedAttentionParams params_;
  std::size_t out_size_ = 0;
};

}  // namespace latentd::cuda
