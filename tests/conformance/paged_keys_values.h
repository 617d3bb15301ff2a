// A paged cache of keys and values for tests: pages in random order, everything unused poisoned.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "engine/backend/op_params.h"
#include "kvcache/cache_layout.h"
#include "tests/conformance/device.h"
#include "tests/conformance/paged_cache.h"

namespace latentd::conformance {

class PagedKeysValues {
 public:
  // lengths[slot] tokens can be stored for each slot. Every byte of the pool is a NaN pattern, and
  // page-table entries past a slot's end are wild. The layer under test is the last of two.
  PagedKeysValues(Device& device, std::mt19937_64& random, const GqaGeometry& geometry, DType dtype,
                  const std::vector<int>& lengths, int page_tokens = 64);

  // What `position` has becomes `key` and `value` [kv heads, head_dim], rounded to the cache's
  // dtype.
  void set(int slot, int position, std::span<const float> key, std::span<const float> value);
  // Copies what was set to the device.
  void flush();

  KeyValueView view() const;
  // What the device holds now.
  std::vector<double> device_key(int slot, int position) { return device_row(slot, position, 0); }
  std::vector<double> device_value(int slot, int position) { return device_row(slot, position, 1); }
  std::vector<std::byte> device_pool();

  // The arrays that describe a step's rows, in device memory.
  BatchView batch(const std::vector<StepRow>& rows);

 private:
  std::size_t row_offset(int slot, int position, int plane) const;
  std::vector<double> device_row(int slot, int position, int plane);

  Device& device_;
  CacheLayout layout_;
  DType dtype_;
  int max_pages_ = 0;
  int num_pages_ = 0;
  std::vector<std::int32_t> table_;
  std::vector<std::byte> pool_;
  void* device_pool_ = nullptr;
  std::int32_t* device_table_ = nullptr;
};

}  // namespace latentd::conformance
