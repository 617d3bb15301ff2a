#include "base/tensor_view.h"

#include <algorithm>

#include "base/check.h"

namespace latentd {

std::int64_t TensorView::num_elements() const {
  std::int64_t count = 1;
  for (int axis = 0; axis < rank; ++axis) count *= dim(axis);
  return count;
}

std::size_t TensorView::num_bytes() const {
  return static_cast<std::size_t>(num_elements()) * dtype_size(dtype);
}

std::string TensorView::to_string() const {
  std::string text(dtype_name(dtype));
  text += " [";
  for (int axis = 0; axis < rank; ++axis) {
    if (axis > 0) text += ", ";
    text += std::to_string(dim(axis));
  }
  return text + "]";
}

TensorView make_tensor_view(const void* data, DType dtype,
                            std::initializer_list<std::int64_t> shape) {
  LATENTD_CHECK(shape.size() <= TensorView::kMaxRank, "rank {} is too large", shape.size());
  TensorView view{data, dtype, static_cast<int>(shape.size()), {}};
  std::copy(shape.begin(), shape.end(), view.shape.begin());
  return view;
}

}  // namespace latentd
