// The start of row `row` of a dense array of `width` elements a row.
#pragma once

#include <cstddef>
#include <cstdint>

namespace latentd::cpu {

template <typename T>
T* row_at(T* base, std::int64_t row, std::int64_t width) {
  return base + static_cast<std::ptrdiff_t>(row * width);
}

}  // namespace latentd::cpu
