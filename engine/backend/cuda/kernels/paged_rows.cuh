// Where the cached latents of a sequence lie, and which tokens of the step a batch's rows hold.
// Table entries past a sequence's end are not read.
#pragma once

#include <cstddef>

#include "engine/backend/op_params.h"

namespace latentd::cuda {

// The page of a token, and its place there.
struct TokenPlace {
  char* page;
  std::size_t token;

  __device__ char* row(std::size_t plane_offset, std::size_t row_bytes) const {
    return page + plane_offset + token * row_bytes;
  }
};

__device__ inline TokenPlace find_token(const BatchView& batch, const CacheView& cache, int slot,
                                        int position) {
  const std::int32_t* pages = batch.page_table + static_cast<std::size_t>(slot) * batch.max_pages;
  const auto page = static_cast<std::size_t>(pages[position / cache.page_tokens]);
  return {static_cast<char*>(cache.pool) + page * cache.page_stride,
          static_cast<std::size_t>(position % cache.page_tokens)};
}

// The row in a cache of one plane.
__device__ inline char* cache_row(const BatchView& batch, const CacheView& cache,
                                  std::size_t row_bytes, int slot, int position) {
  return find_token(batch, cache, slot, position).row(cache.layer_offset, row_bytes);
}

// A batch may hold only the later rows of its step: their tokens lie behind one another, up to the
// padding.
__device__ inline bool in_rows(const BatchView& batch, int token) {
  return token >= batch.rows[0].first_token && batch.token_slots[token] >= 0;
}

}  // namespace latentd::cuda
