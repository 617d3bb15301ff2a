// The rows of the latent cache: where they lie, and how the CPU reads and writes them.
//
// Contract: page-table entries past the positions named are never read; nor are cache slots.
// Thread-safe; who writes a row is alone with it.
#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "engine/backend/op_params.h"

namespace latentd::cpu {

// Writes `row` [kv_lora_rank + rope] at `position` of the sequence in `slot`, rounded to the
// cache's dtype.
void store_cache_row(const BatchView& batch, const CacheView& cache, const MlaGeometry& geometry,
                     std::int32_t slot, std::int32_t position, const float* row);

// The rows of positions first .. first + count - 1 as operands of products: row j lies at rows[j]
// and its elements are of the dtype returned. fp32 and bf16 rows are multiplied where they lie; fp8
// is widened to bf16 in `wide` [count, kv_lora_rank + rope], exactly, so a product's bits are those
// over the values stored.
DType cache_row_operands(const BatchView& batch, const CacheView& cache,
                         const MlaGeometry& geometry, std::int32_t slot, std::int32_t first,
                         std::int32_t count, BFloat16* wide, const void** rows);

}  // namespace latentd::cpu
