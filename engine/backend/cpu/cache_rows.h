// Where the cached latents of a sequence lie.
//
// Contract: page-table entries past `count` keys are never read; nor are cache slots.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/backend/op_params.h"

namespace latentd::cpu {

inline std::size_t cache_row_bytes(const CacheView& cache, const MlaGeometry& geometry) {
  return static_cast<std::size_t>(geometry.latent_dim()) * dtype_size(cache.dtype);
}

// The row of the token at `position` of the sequence in `slot`.
inline void* cache_row(const BatchView& batch, const CacheView& cache, std::size_t row_bytes,
                       std::int32_t slot, std::int32_t position) {
  const std::int32_t* pages =
      batch.page_table + static_cast<std::size_t>(slot) * static_cast<std::size_t>(batch.max_pages);
  const auto page = static_cast<std::size_t>(pages[position / cache.page_tokens]);
  const auto token = static_cast<std::size_t>(position % cache.page_tokens);
  return static_cast<char*>(cache.pool) + page * cache.page_stride + cache.layer_offset +
         token * row_bytes;
}

// rows[j] = the row of position first + j, for j in [0, count).
inline void cache_rows(const BatchView& batch, const CacheView& cache, std::size_t row_bytes,
                       std::int32_t slot, std::int32_t first, std::int32_t count,
                       const void** rows) {
  for (std::int32_t j = 0; j < count; ++j) {
    rows[j] = cache_row(batch, cache, row_bytes, slot, first + j);
  }
}

}  // namespace latentd::cpu
