#include "tests/conformance/paged_cache.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/check.h"

namespace latentd::conformance {

PagedCache::PagedCache(Device& device, std::mt19937_64& random, const MlaGeometry& geometry,
                       DType dtype, const std::vector<int>& lengths, const CacheOptions& options)
    : device_(device), geometry_(geometry), dtype_(dtype), options_(options) {
  num_slots_ = static_cast<int>(lengths.size());
  const auto pages_of = [&](int length) {
    return (length + options.page_tokens - 1) / options.page_tokens;
  };
  int used = 0;
  for (const int length : lengths) {
    used += pages_of(length);
    max_pages_ = std::max(max_pages_, pages_of(length) + 2);
  }
  num_pages_ = used + 3;
  const std::size_t layer_bytes = static_cast<std::size_t>(options.page_tokens) *
                                  static_cast<std::size_t>(geometry.latent_dim()) *
                                  dtype_size(dtype);
  page_stride_ = layer_bytes * static_cast<std::size_t>(options.num_layers);
  layer_offset_ = page_stride_ - layer_bytes;
  pool_.assign(page_stride_ * static_cast<std::size_t>(num_pages_), std::byte{0xff});

  std::vector<std::int32_t> pages(static_cast<std::size_t>(num_pages_));
  std::iota(pages.begin(), pages.end(), 0);
  std::shuffle(pages.begin(), pages.end(), random);
  table_.assign(static_cast<std::size_t>(num_slots_ * max_pages_), 0x7fffffff);
  std::size_t next = 0;
  for (int slot = 0; slot < num_slots_; ++slot) {
    for (int i = 0; i < pages_of(lengths[static_cast<std::size_t>(slot)]); ++i) {
      table_[static_cast<std::size_t>(slot * max_pages_ + i)] = pages[next++];
    }
  }
  device_table_ = device.array(table_);
  device_pool_ = device.array(pool_);
}

std::size_t PagedCache::row_offset(int slot, int position) const {
  const std::int32_t page =
      table_[static_cast<std::size_t>(slot * max_pages_ + position / options_.page_tokens)];
  LATENTD_CHECK(page >= 0 && page < num_pages_, "slot {} has no token {}", slot, position);
  const std::size_t row_bytes =
      static_cast<std::size_t>(geometry_.latent_dim()) * dtype_size(dtype_);
  return static_cast<std::size_t>(page) * page_stride_ + layer_offset_ +
         static_cast<std::size_t>(position % options_.page_tokens) * row_bytes;
}

void PagedCache::set(int slot, int position, std::span<const float> values) {
  std::byte* row = pool_.data() + row_offset(slot, position);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (dtype_ == DType::kBF16) {
      const BFloat16 value = to_bfloat16(values[i]);
      std::memcpy(row + i * sizeof(value), &value, sizeof(value));
    } else {
      std::memcpy(row + i * sizeof(float), &values[i], sizeof(float));
    }
  }
}

void PagedCache::flush() { device_pool_ = device_.array(pool_); }

CacheView PagedCache::view() const {
  return {device_pool_, page_stride_, layer_offset_, options_.page_tokens, num_pages_, dtype_};
}

std::vector<double> PagedCache::device_row(int slot, int position) {
  const auto width = static_cast<std::size_t>(geometry_.latent_dim());
  const auto* row = static_cast<const std::byte*>(device_pool_) + row_offset(slot, position);
  const auto bytes = device_.read(row, width * dtype_size(dtype_));
  std::vector<double> values(width);
  for (std::size_t i = 0; i < width; ++i) {
    if (dtype_ == DType::kBF16) {
      BFloat16 value{};
      std::memcpy(&value, bytes.data() + i * sizeof(value), sizeof(value));
      values[i] = to_float(value);
    } else {
      float value = 0.0F;
      std::memcpy(&value, bytes.data() + i * sizeof(value), sizeof(value));
      values[i] = value;
    }
  }
  return values;
}

std::vector<std::byte> PagedCache::device_pool() {
  return device_.read(static_cast<const std::byte*>(device_pool_), pool_.size());
}

BatchView make_batch(Device& device, const PagedCache& cache, const std::vector<StepRow>& rows,
                     const std::vector<TokenId>& tokens) {
  std::vector<std::int32_t> positions;
  std::vector<std::int32_t> slots;
  std::vector<RowView> views;
  for (const StepRow& row : rows) {
    views.push_back({row.slot, static_cast<std::int32_t>(positions.size()), row.count, row.start});
    for (int i = 0; i < row.count; ++i) {
      positions.push_back(row.start + i);
      slots.push_back(row.slot);
    }
  }
  BatchView batch;
  batch.num_tokens = static_cast<std::int32_t>(positions.size());
  batch.num_rows = static_cast<std::int32_t>(rows.size());
  batch.tokens = tokens.empty() ? nullptr : device.array(tokens);
  batch.positions = device.array(positions);
  batch.token_slots = device.array(slots);
  batch.rows = device.array(views);
  batch.host_rows = device.host_array(views);
  batch.page_table = cache.page_table();
  batch.max_pages = cache.max_pages();
  return batch;
}

}  // namespace latentd::conformance
