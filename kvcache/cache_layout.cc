#include "kvcache/cache_layout.h"

#include <utility>

#include "base/check.h"

namespace latentd {

CacheLayout::CacheLayout(int num_layers, int page_tokens, std::vector<CachePlane> planes)
    : num_layers_(num_layers), page_tokens_(page_tokens), planes_(std::move(planes)) {}

CacheLayout CacheLayout::mla(int num_layers, int kv_lora_rank, int rope_dim, DType dtype,
                             int page_tokens) {
  if (dtype == DType::kF8E4M3) {
    return CacheLayout(num_layers, page_tokens,
                       {{"latent", kv_lora_rank, dtype},
                        {"scales", latent_groups(kv_lora_rank), DType::kF32},
                        {"rope", rope_dim, DType::kBF16}});
  }
  return CacheLayout(num_layers, page_tokens, {{"latent", kv_lora_rank + rope_dim, dtype}});
}

CacheLayout CacheLayout::kv_heads(int num_layers, int num_kv_heads, int key_dim, int value_dim,
                                  DType dtype, int page_tokens) {
  return CacheLayout(
      num_layers, page_tokens,
      {{"keys", num_kv_heads * key_dim, dtype}, {"values", num_kv_heads * value_dim, dtype}});
}

Status CacheLayout::validate() const {
  if (num_layers_ <= 0) {
    return invalid_argument("num_layers", fmt::format("must be at least 1, got {}", num_layers_));
  }
  if (page_tokens_ != 16 && page_tokens_ != 32 && page_tokens_ != 64) {
    return invalid_argument("page_tokens",
                            fmt::format("must be 16, 32 or 64, got {}", page_tokens_));
  }
  for (const CachePlane& plane : planes_) {
    if (plane.elements_per_token <= 0) {
      return invalid_argument(
          plane.name,
          fmt::format("must have at least 1 element a token, got {}", plane.elements_per_token));
    }
  }
  return ok_status();
}

std::size_t CacheLayout::bytes_per_token_and_layer() const {
  std::size_t bytes = 0;
  for (const CachePlane& plane : planes_) bytes += plane.bytes_per_token();
  return bytes;
}

std::size_t CacheLayout::bytes_per_token() const {
  return bytes_per_token_and_layer() * static_cast<std::size_t>(num_layers_);
}

std::size_t CacheLayout::layer_bytes() const {
  return bytes_per_token_and_layer() * static_cast<std::size_t>(page_tokens_);
}

std::size_t CacheLayout::page_bytes() const {
  return layer_bytes() * static_cast<std::size_t>(num_layers_);
}

std::size_t CacheLayout::plane_offset(int layer, int plane) const {
  LATENTD_CHECK(layer >= 0 && layer < num_layers_, "layer {} of {}", layer, num_layers_);
  LATENTD_CHECK(plane >= 0 && static_cast<std::size_t>(plane) < planes_.size(), "plane {} of {}",
                plane, planes_.size());
  std::size_t bytes = static_cast<std::size_t>(layer) * layer_bytes();
  for (int before = 0; before < plane; ++before) {
    bytes += planes_[static_cast<std::size_t>(before)].bytes_per_token() *
             static_cast<std::size_t>(page_tokens_);
  }
  return bytes;
}

std::size_t CacheLayout::offset(PageId page, int layer, int plane, int token) const {
  LATENTD_CHECK(token >= 0 && token < page_tokens_, "token {} of {}", token, page_tokens_);
  const std::size_t in_page = plane_offset(layer, plane);
  return page.index() * page_bytes() + in_page +
         static_cast<std::size_t>(token) *
             planes_[static_cast<std::size_t>(plane)].bytes_per_token();
}

}  // namespace latentd
