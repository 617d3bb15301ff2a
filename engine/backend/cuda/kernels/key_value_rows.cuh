// Where the cached keys and values of a sequence lie. Table entries past a sequence's end are not
// read.
#pragma once

#include <cstddef>

#include "engine/backend/op_params.h"

namespace latentd::cuda {

// What one token has in the cache: [kv heads, head_dim] each.
struct KeyValueRows {
  __device__ KeyValueRows(const BatchView& batch, const KeyValueView& cache, const GqaGeometry& g,
                          int slot, int position) {
    const std::int32_t* pages = batch.page_table + static_cast<std::size_t>(slot) * batch.max_pages;
    const auto page = static_cast<std::size_t>(pages[position / cache.page_tokens]);
    const auto token = static_cast<std::size_t>(position % cache.page_tokens);
    char* start =
        static_cast<char*>(cache.pool) + page * cache.page_stride +
        token * static_cast<std::size_t>(g.num_kv_heads * g.head_dim) * dtype_size(cache.dtype);
    key = start + cache.keys_offset;
    value = start + cache.values_offset;
  }

  char* key;
  char* value;
};

}  // namespace latentd::cuda
