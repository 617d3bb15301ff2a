#include "engine/backend/cuda/tensor_map.h"

#include <cuda_runtime_api.h>

#include <algorithm>

namespace latentd::cuda {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

// Through the runtime, so that nothing links against the driver.
Encode find_encode() {
  constexpr unsigned kVersion = 12000;
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, kVersion,
                                       cudaEnableDefault, &found) != cudaSuccess ||
      found != cudaDriverEntryPointSuccess) {
    return nullptr;
  }
  return reinterpret_cast<Encode>(function);
}

}  // namespace

bool make_tensor_map(CUtensorMap& map, const TensorMapParams& p) {
  static const Encode encode = find_encode();
  if (encode == nullptr) return false;
  std::array<cuuint64_t, 4> sizes{};
  std::array<cuuint64_t, 3> strides{};
  std::array<cuuint32_t, 4> box{};
  std::copy(p.sizes.begin(), p.sizes.end(), sizes.begin());
  std::copy(p.strides.begin(), p.strides.end(), strides.begin());
  std::copy(p.box.begin(), p.box.end(), box.begin());
  const std::array<cuuint32_t, 4> steps = {1, 1, 1, 1};
  return encode(&map, p.type, static_cast<cuuint32_t>(p.rank), const_cast<void*>(p.data),
                sizes.data(), strides.data(), box.data(), steps.data(),
                CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, p.promotion,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

bool make_tensor_map(CUtensorMap& map, const void* data, std::int64_t columns, std::int64_t rows,
                     std::int32_t box_columns, std::int32_t box_rows, std::int64_t row_stride) {
  TensorMapParams p;
  p.data = data;
  p.rank = 2;
  p.sizes = {columns, rows};
  p.strides = {(row_stride == 0 ? columns : row_stride) * 2};
  p.box = {box_columns, box_rows};
  p.promotion = CU_TENSOR_MAP_L2_PROMOTION_L2_256B;
  return make_tensor_map(map, p);
}

}  // namespace latentd::cuda
