#include "tests/conformance/paged_cache.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/check.h"
#include "tests/support/fp8_oracle.h"

namespace latentd::conformance {

namespace {

std::size_t size(int value) { return static_cast<std::size_t>(value); }

template <typename T>
void write(std::byte* to, std::size_t index, T value) {
  std::memcpy(to + index * sizeof(T), &value, sizeof(T));
}

template <typename T>
T read(const std::byte* from, std::size_t index) {
  T value{};
  std::memcpy(&value, from + index * sizeof(T), sizeof(T));
  return value;
}

void write_floats(std::byte* to, DType dtype, std::span<const float> values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::kBF16) {
      write(to, i, to_bfloat16(values[i]));
    } else {
      write(to, i, values[i]);
    }
  }
}

void read_floats(const std::byte* from, DType dtype, std::size_t count,
                 std::vector<double>& values) {
  for (std::size_t i = 0; i < count; ++i) {
    const float value =
        dtype == DType::kBF16 ? to_float(read<BFloat16>(from, i)) : read<float>(from, i);
    values.push_back(static_cast<double>(value));
  }
}

}  // namespace

PagedCache::PagedCache(Device& device, std::mt19937_64& random, const MlaGeometry& geometry,
                       DType dtype, const std::vector<int>& lengths, const CacheOptions& options)
    : device_(device),
      geometry_(geometry),
      layout_(CacheLayout::mla(options.num_layers, geometry.kv_lora_rank, geometry.rope_dim, dtype,
                               options.page_tokens)) {
  num_slots_ = static_cast<int>(lengths.size());
  int used = 0;
  for (const int length : lengths) {
    used += layout_.pages_for_tokens(length);
    max_pages_ = std::max(max_pages_, layout_.pages_for_tokens(length) + 2);
  }
  num_pages_ = used + 3;
  pool_.assign(layout_.page_bytes() * size(num_pages_), options.fill);

  std::vector<std::int32_t> pages(size(num_pages_));
  std::iota(pages.begin(), pages.end(), 0);
  std::shuffle(pages.begin(), pages.end(), random);
  table_.assign(size(num_slots_ * max_pages_), 0x7fffffff);
  std::size_t next = 0;
  for (int slot = 0; slot < num_slots_; ++slot) {
    for (int i = 0; i < layout_.pages_for_tokens(lengths[size(slot)]); ++i) {
      table_[size(slot * max_pages_ + i)] = pages[next++];
    }
  }
  device_table_ = device.array(table_);
  device_pool_ = device.array(pool_);
}

void PagedCache::share(int of, int slot, int tokens) {
  LATENTD_CHECK(tokens % layout_.page_tokens() == 0, "{} tokens are no whole pages", tokens);
  const auto first = table_.begin() + of * max_pages_;
  std::copy(first, first + tokens / layout_.page_tokens(), table_.begin() + slot * max_pages_);
  device_table_ = device_.array(table_);
}

std::size_t PagedCache::row_offset(int slot, int position, int plane) const {
  const std::int32_t page = table_[size(slot * max_pages_ + position / layout_.page_tokens())];
  LATENTD_CHECK(page >= 0 && page < num_pages_, "slot {} has no token {}", slot, position);
  return layout_.offset(PageId(page), layout_.num_layers() - 1, plane,
                        position % layout_.page_tokens());
}

std::vector<double> PagedCache::set(int slot, int position, std::span<const float> values) {
  std::byte* first = pool_.data() + row_offset(slot, position, 0);
  if (layout_.dtype() == DType::kF8E4M3) {
    const auto latents = values.first(size(geometry_.kv_lora_rank));
    const auto quantized = oracle::quantize(to_double(latents));
    std::memcpy(first, quantized.codes.data(), quantized.codes.size());
    write_floats(pool_.data() + row_offset(slot, position, 1), DType::kF32, quantized.scales);
    write_floats(pool_.data() + row_offset(slot, position, 2), DType::kBF16,
                 values.subspan(latents.size()));
  } else {
    write_floats(first, layout_.dtype(), values);
  }
  return row(pool_, slot, position);
}

void PagedCache::set_scale(int slot, int position, int group, float scale) {
  write(pool_.data() + row_offset(slot, position, 1), size(group), scale);
}

std::vector<double> PagedCache::row(const std::vector<std::byte>& pool, int slot,
                                    int position) const {
  const std::byte* first = pool.data() + row_offset(slot, position, 0);
  std::vector<double> values;
  if (layout_.dtype() != DType::kF8E4M3) {
    read_floats(first, layout_.dtype(), size(geometry_.latent_dim()), values);
    return values;
  }
  const std::byte* scales = pool.data() + row_offset(slot, position, 1);
  oracle::Fp8Latents quantized;
  for (std::size_t i = 0; i < size(geometry_.kv_lora_rank); ++i) {
    quantized.codes.push_back(read<std::uint8_t>(first, i));
  }
  for (std::size_t i = 0; i < size(layout_.planes()[1].elements_per_token); ++i) {
    quantized.scales.push_back(read<float>(scales, i));
  }
  values = quantized.values();
  read_floats(pool.data() + row_offset(slot, position, 2), DType::kBF16, size(geometry_.rope_dim),
              values);
  return values;
}

void PagedCache::flush() { device_pool_ = device_.array(pool_); }

CacheView PagedCache::view() const {
  const int layer = layout_.num_layers() - 1;
  CacheView view;
  view.pool = device_pool_;
  view.page_stride = layout_.page_bytes();
  view.layer_offset = layout_.plane_offset(layer, 0);
  if (layout_.dtype() == DType::kF8E4M3) {
    view.scales_offset = layout_.plane_offset(layer, 1);
    view.rope_offset = layout_.plane_offset(layer, 2);
  }
  view.page_tokens = layout_.page_tokens();
  view.num_pages = num_pages_;
  view.dtype = layout_.dtype();
  return view;
}

std::vector<double> PagedCache::device_row(int slot, int position) {
  return row(device_pool(), slot, position);
}

std::vector<std::byte> PagedCache::device_pool() {
  return device_.read(static_cast<const std::byte*>(device_pool_), pool_.size());
}

double rounding_of(DType cache, double otherwise) {
  if (cache == DType::kBF16) return 4e-3;      // 8 bits
  if (cache == DType::kF8E4M3) return 6.3e-2;  // 4 bits
  return otherwise;
}

BatchView make_batch(Device& device, const PagedCache& cache, const std::vector<StepRow>& rows,
                     const std::vector<TokenId>& tokens) {
  return make_batch(device, cache.page_table(), cache.max_pages(), rows, tokens);
}

BatchView make_batch(Device& device, const std::int32_t* page_table, int max_pages,
                     const std::vector<StepRow>& rows, const std::vector<TokenId>& tokens) {
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
  batch.page_table = page_table;
  batch.max_pages = max_pages;
  return batch;
}

}  // namespace latentd::conformance
