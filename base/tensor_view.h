// TensorView: a dense, row-major array that somebody else owns.
//
// Contract: a plain value; valid as long as its owner. `data` points to host or device memory as
// its holder says; an unset view has data == nullptr. Rank at most kMaxRank.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "base/dtype.h"

namespace latentd {

struct TensorView {
  static constexpr int kMaxRank = 4;

  const void* data = nullptr;
  DType dtype = DType::kF32;
  int rank = 0;
  std::array<std::int64_t, kMaxRank> shape{};

  bool is_set() const { return data != nullptr; }
  std::int64_t dim(int axis) const { return shape[static_cast<std::size_t>(axis)]; }
  std::int64_t num_elements() const;
  std::size_t num_bytes() const;
  // "bf16 [2048, 576]"
  std::string to_string() const;
};

// A view with the given shape. REQUIRES: at most kMaxRank dimensions.
TensorView make_tensor_view(const void* data, DType dtype,
                            std::initializer_list<std::int64_t> shape);

}  // namespace latentd
