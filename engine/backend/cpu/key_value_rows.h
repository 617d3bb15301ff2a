// Where the cached keys and values of a sequence lie.
//
// Contract: page-table entries past the positions asked for are never read; nor are cache slots.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/backend/op_params.h"

namespace latentd::cpu {

// What one token has in the cache: [kv heads, head_dim] each.
struct KeyValueRows {
  char* key;
  char* value;
};

inline KeyValueRows key_value_rows(const BatchView& batch, const KeyValueView& cache,
                                   const GqaGeometry& geometry, std::int32_t slot,
                                   std::int32_t position) {
  const std::int32_t* pages =
      batch.page_table + static_cast<std::size_t>(slot) * static_cast<std::size_t>(batch.max_pages);
  const auto page = static_cast<std::size_t>(pages[position / cache.page_tokens]);
  char* start = static_cast<char*>(cache.pool) + page * cache.page_stride +
                static_cast<std::size_t>(position % cache.page_tokens) *
                    static_cast<std::size_t>(geometry.kv_dim()) * dtype_size(cache.dtype);
  return {start + cache.keys_offset, start + cache.values_offset};
}

}  // namespace latentd::cpu
