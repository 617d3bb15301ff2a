// ArenaLayout: where tensors lie when they share one allocation, and which parts of them a chunk of
// it holds.
//
// Contract: plain host code, no device needed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace latentd::cuda {

struct ArenaLayout {
  static constexpr std::size_t kAlignment = 256;

  std::vector<std::size_t> offsets;  // of each tensor; multiples of kAlignment
  std::vector<std::size_t> sizes;    // bytes
  std::size_t bytes = 0;             // of the arena

  static ArenaLayout of(std::span<const std::size_t> sizes) {
    ArenaLayout layout;
    for (const std::size_t size : sizes) {
      layout.offsets.push_back(layout.bytes);
      layout.sizes.push_back(size);
      layout.bytes += (size + kAlignment - 1) / kAlignment * kAlignment;
    }
    return layout;
  }

  // Calls piece(tensor, first byte of the tensor, first byte in the arena, bytes) for every part of
  // a tensor that lies in [begin, end) of the arena, ascending.
  template <typename Piece>
  void for_each_piece(std::size_t begin, std::size_t end, Piece&& piece) const {
    const auto after = std::upper_bound(offsets.begin(), offsets.end(), begin);
    auto tensor = static_cast<std::size_t>(after - offsets.begin());
    if (tensor > 0) --tensor;
    for (; tensor < offsets.size() && offsets[tensor] < end; ++tensor) {
      const std::size_t first = std::max(begin, offsets[tensor]);
      const std::size_t last = std::min(end, offsets[tensor] + sizes[tensor]);
      if (first < last) piece(tensor, first - offsets[tensor], first, last - first);
    }
  }
};

}  // namespace latentd::cuda
