// A paged latent cache for tests: pages in random order, everything unused poisoned.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "engine/backend/op_params.h"
#include "kvcache/cache_layout.h"
#include "tests/conformance/device.h"

namespace latentd::conformance {

struct CacheOptions {
  int page_tokens = 64;
  int num_layers = 2;    // the layer under test is the last one
  std::byte fill{0xff};  // of what is never written; 0xff gives NaN in every dtype
};

class PagedCache {
 public:
  // lengths[slot] tokens can be stored for each slot. Every byte of the pool is `fill`, and
  // page-table entries past a slot's end are wild.
  PagedCache(Device& device, std::mt19937_64& random, const MlaGeometry& geometry, DType dtype,
             const std::vector<int>& lengths, const CacheOptions& options = {});

  // The first `tokens` tokens of `slot`, whole pages, are those of slot `of` from now on.
  void share(int of, int slot, int tokens);
  // The row of `position` becomes `values` [latent_dim], rounded to the cache's dtype; in fp8 as
  // tests/support/fp8_oracle.h rounds. Returns what it is then.
  std::vector<double> set(int slot, int position, std::span<const float> values);
  // The scale of a group of 128 latents in fp8, of a row that is set.
  void set_scale(int slot, int position, int group, float scale);
  // Copies what was set to the device.
  void flush();

  CacheView view() const;
  // The row as the device holds it now.
  std::vector<double> device_row(int slot, int position);

  // The whole pool as the device holds it now.
  std::vector<std::byte> device_pool();

  const std::int32_t* page_table() const { return device_table_; }
  int max_pages() const { return max_pages_; }
  int num_slots() const { return num_slots_; }
  const CacheLayout& layout() const { return layout_; }

 private:
  // From the start of the pool.
  std::size_t row_offset(int slot, int position, int plane) const;
  std::vector<double> row(const std::vector<std::byte>& pool, int slot, int position) const;

  Device& device_;
  MlaGeometry geometry_;
  CacheLayout layout_;
  int num_slots_ = 0;
  int max_pages_ = 0;
  int num_pages_ = 0;
  std::vector<std::int32_t> table_;
  std::vector<std::byte> pool_;
  void* device_pool_ = nullptr;
  std::int32_t* device_table_ = nullptr;
};

// Half a unit in the last place of what a cache of this dtype holds, relative to the largest value;
// `otherwise` where it holds all bits.
double rounding_of(DType cache, double otherwise);

// Rows of a step and the arrays that describe them, in device memory.
struct StepRow {
  int slot;
  int start;
  int count;
};
BatchView make_batch(Device& device, const std::int32_t* page_table, int max_pages,
                     const std::vector<StepRow>& rows, const std::vector<TokenId>& tokens = {});
BatchView make_batch(Device& device, const PagedCache& cache, const std::vector<StepRow>& rows,
                     const std::vector<TokenId>& tokens = {});

}  // namespace latentd::conformance
