#include "engine/backend/cpu/cache_rows.h"

#include <algorithm>
#include <bit>
#include <cstddef>

#include "engine/backend/cpu/row_at.h"
#include "engine/backend/cpu/vector_kernels.h"
#include "engine/backend/latent_scale.h"
#include "kvcache/cache_layout.h"

namespace latentd::cpu {
namespace {

std::size_t size(std::int32_t value) { return static_cast<std::size_t>(value); }

// Where a token lies in one plane of its page.
struct TokenPlace {
  char* page;
  std::size_t token;

  char* row(std::size_t plane_offset, std::size_t row_bytes) const {
    return page + plane_offset + token * row_bytes;
  }
};

TokenPlace find(const BatchView& batch, const CacheView& cache, std::int32_t slot,
                std::int32_t position) {
  const std::int32_t* pages = batch.page_table + size(slot) * size(batch.max_pages);
  const std::size_t page = size(pages[position / cache.page_tokens]);
  return {static_cast<char*>(cache.pool) + page * cache.page_stride,
          size(position % cache.page_tokens)};
}

// The row of one token in an fp8 cache.
struct Fp8Row {
  std::uint8_t* codes;  // [kv_lora_rank]
  float* scales;        // [groups]
  BFloat16* rope;       // [rope]
};

Fp8Row fp8_row(const TokenPlace& place, const CacheView& cache, const MlaGeometry& g) {
  const std::size_t groups = size(latent_groups(g.kv_lora_rank));
  return {reinterpret_cast<std::uint8_t*>(place.row(cache.layer_offset, size(g.kv_lora_rank))),
          reinterpret_cast<float*>(place.row(cache.scales_offset, groups * sizeof(float))),
          reinterpret_cast<BFloat16*>(
              place.row(cache.rope_offset, size(g.rope_dim) * sizeof(BFloat16)))};
}

// codes = x / scale for one group, and its scale.
float quantize_group(const float* x, std::size_t count, std::uint8_t* codes) {
  std::uint32_t largest = 0;
  for (std::size_t i = 0; i < count; ++i) {
    largest = std::max(largest, std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffffU);
  }
  const std::uint32_t scale = latent_scale_bits(largest);
  const auto inverse = std::bit_cast<float>(inverse_scale_bits(scale));
  for (std::size_t i = 0; i < count; ++i) codes[i] = to_float8_e4m3(x[i] * inverse).bits;
  return std::bit_cast<float>(scale);
}

void store_fp8(const Fp8Row& to, const MlaGeometry& g, const float* row) {
  const std::size_t latents = size(g.kv_lora_rank);
  constexpr auto kGroup = static_cast<std::size_t>(kLatentGroup);
  for (std::size_t first = 0; first < latents; first += kGroup) {
    to.scales[first / kGroup] =
        quantize_group(row + first, std::min(kGroup, latents - first), to.codes + first);
  }
  store_from_f32(row + latents, DType::kBF16, to.rope, size(g.rope_dim));
}

void widen_fp8(const Fp8Row& from, const MlaGeometry& g, BFloat16* out) {
  const std::size_t latents = size(g.kv_lora_rank);
  load_scaled_e4m3(from.codes, from.scales, size(kLatentGroup), out, latents);
  std::copy_n(from.rope, g.rope_dim, out + latents);
}

char* plain_row(const TokenPlace& place, const CacheView& cache, const MlaGeometry& g) {
  return place.row(cache.layer_offset, size(g.latent_dim()) * dtype_size(cache.dtype));
}

}  // namespace

void store_cache_row(const BatchView& batch, const CacheView& cache, const MlaGeometry& g,
                     std::int32_t slot, std::int32_t position, const float* row) {
  const TokenPlace place = find(batch, cache, slot, position);
  if (cache.dtype == DType::kF8E4M3) return store_fp8(fp8_row(place, cache, g), g, row);
  store_from_f32(row, cache.dtype, plain_row(place, cache, g), size(g.latent_dim()));
}

DType cache_row_operands(const BatchView& batch, const CacheView& cache, const MlaGeometry& g,
                         std::int32_t slot, std::int32_t first, std::int32_t count, BFloat16* wide,
                         const void** rows) {
  const bool fp8 = cache.dtype == DType::kF8E4M3;
  for (std::int32_t j = 0; j < count; ++j) {
    const TokenPlace place = find(batch, cache, slot, first + j);
    if (fp8) {
      BFloat16* row = row_at(wide, j, g.latent_dim());
      widen_fp8(fp8_row(place, cache, g), g, row);
      rows[j] = row;
    } else {
      rows[j] = plain_row(place, cache, g);
    }
  }
  return fp8 ? DType::kBF16 : cache.dtype;
}

}  // namespace latentd::cpu
