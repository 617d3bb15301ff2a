#include "tests/conformance/paged_keys_values.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/check.h"

namespace latentd::conformance {
namespace {

constexpr int kLayers = 2;
constexpr int kLayer = 1;  // under test

std::size_t size(int value) { return static_cast<std::size_t>(value); }

}  // namespace

PagedKeysValues::PagedKeysValues(Device& device, std::mt19937_64& random,
                                 const GqaGeometry& geometry, DType dtype,
                                 const std::vector<int>& lengths, int page_tokens)
    : device_(device),
      layout_(CacheLayout::kv_heads(kLayers, geometry.num_kv_heads, geometry.head_dim,
                                    geometry.head_dim, dtype, page_tokens)),
      dtype_(dtype) {
  int used = 0;
  for (const int length : lengths) {
    used += layout_.pages_for_tokens(length);
    max_pages_ = std::max(max_pages_, layout_.pages_for_tokens(length) + 2);
  }
  num_pages_ = used + 3;
  pool_.assign(layout_.page_bytes() * size(num_pages_), std::byte{0xff});
  std::vector<std::int32_t> pages(size(num_pages_));
  std::iota(pages.begin(), pages.end(), 0);
  std::shuffle(pages.begin(), pages.end(), random);
  table_.assign(lengths.size() * size(max_pages_), 0x7fffffff);
  std::size_t next = 0;
  for (std::size_t slot = 0; slot < lengths.size(); ++slot) {
    for (int i = 0; i < layout_.pages_for_tokens(lengths[slot]); ++i) {
      table_[slot * size(max_pages_) + size(i)] = pages[next++];
    }
  }
  device_table_ = device.array(table_);
  device_pool_ = device.array(pool_);
}

std::size_t PagedKeysValues::row_offset(int slot, int position, int plane) const {
  const std::int32_t page = table_[size(slot * max_pages_ + position / layout_.page_tokens())];
  LATENTD_CHECK(page >= 0 && page < num_pages_, "slot {} has no token {}", slot, position);
  return layout_.offset(PageId(page), kLayer, plane, position % layout_.page_tokens());
}

void PagedKeysValues::set(int slot, int position, std::span<const float> key,
                          std::span<const float> value) {
  for (const auto& [plane, row] : {std::pair{0, key}, std::pair{1, value}}) {
    std::byte* to = pool_.data() + row_offset(slot, position, plane);
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (dtype_ == DType::kBF16) {
        const BFloat16 narrow = to_bfloat16(row[i]);
        std::memcpy(to + i * sizeof(narrow), &narrow, sizeof(narrow));
      } else {
        std::memcpy(to + i * sizeof(float), &row[i], sizeof(float));
      }
    }
  }
}

void PagedKeysValues::flush() { device_pool_ = device_.array(pool_); }

KeyValueView PagedKeysValues::view() const {
  return {device_pool_,
          layout_.page_bytes(),
          layout_.plane_offset(kLayer, 0),
          layout_.plane_offset(kLayer, 1),
          layout_.page_tokens(),
          num_pages_,
          dtype_};
}

std::vector<double> PagedKeysValues::device_row(int slot, int position, int plane) {
  const auto width = size(layout_.planes()[size(plane)].elements_per_token);
  const auto* row = static_cast<const std::byte*>(device_pool_) + row_offset(slot, position, plane);
  const auto bytes = device_.read(row, width * dtype_size(dtype_));
  std::vector<double> values(width);
  for (std::size_t i = 0; i < width; ++i) {
    if (dtype_ == DType::kBF16) {
      BFloat16 value{};
      std::memcpy(&value, bytes.data() + i * sizeof(value), sizeof(value));
      values[i] = static_cast<double>(to_float(value));
    } else {
      float value = 0.0F;
      std::memcpy(&value, bytes.data() + i * sizeof(value), sizeof(value));
      values[i] = static_cast<double>(value);
    }
  }
  return values;
}

std::vector<std::byte> PagedKeysValues::device_pool() {
  return device_.read(static_cast<const std::byte*>(device_pool_), pool_.size());
}

BatchView PagedKeysValues::batch(const std::vector<StepRow>& rows) {
  return make_batch(device_, device_table_, max_pages_, rows);
}

}  // namespace latentd::conformance
