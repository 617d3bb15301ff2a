// CacheLayout: where one token's cached values lie, and what they cost.
//
// A page holds `page_tokens` tokens of every cache layer, contiguously, so that it moves in one
// copy:
//
//   page = [cache layer][plane][token in page][element of the plane]
//
// Planes: MLA fp32 / bf16 has one, [kv_lora_rank latents | qk_rope_head_dim rotated rope values]
// (DeepSeek-V2, arXiv:2405.04434, section 2.1.2); MLA fp8 has three, [kv_lora_rank latents in
// e4m3], [an fp32 scale a group of 128 latents] and [qk_rope_head_dim rotated rope values in bf16]:
// a latent is its code times its group's scale, a power of two. Where 128 does not divide
// kv_lora_rank, the last group is shorter. MHA, GQA and MQA have two, keys and values. Sizes are
// exact, no padding: a token costs sum over planes of elements * dtype_size, times layers. Pages,
// layers and planes start on 16-byte borders, because a page has a multiple of 16 tokens.
//
// Contract: an immutable value; all offsets and sizes in bytes; safe from any thread.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/ids.h"
#include "base/status.h"

namespace latentd {

struct CachePlane {
  std::string name;            // "latent", "scales", "rope", "keys", "values"
  int elements_per_token = 0;  // > 0
  DType dtype = DType::kBF16;

  std::size_t bytes_per_token() const {
    return static_cast<std::size_t>(elements_per_token) * dtype_size(dtype);
  }
  friend bool operator==(const CachePlane&, const CachePlane&) = default;
};

// Latents of an fp8 cache that share a scale.
inline constexpr int kLatentGroup = 128;
constexpr int latent_groups(int kv_lora_rank) {
  return (kv_lora_rank + kLatentGroup - 1) / kLatentGroup;
}

class CacheLayout {
 public:
  static constexpr int kDefaultPageTokens = 64;

  // One plane of kv_lora_rank + rope_dim elements in fp32 or bf16; three planes in fp8.
  static CacheLayout mla(int num_layers, int kv_lora_rank, int rope_dim, DType dtype,
                         int page_tokens = kDefaultPageTokens);
  // Two planes of num_kv_heads * head dim elements: MHA, GQA and MQA differ in num_kv_heads alone.
  static CacheLayout kv_heads(int num_layers, int num_kv_heads, int key_dim, int value_dim,
                              DType dtype, int page_tokens = kDefaultPageTokens);

  // kInvalidArgument unless layers and elements are positive and page_tokens is 16, 32 or 64.
  Status validate() const;

  int num_layers() const { return num_layers_; }
  int page_tokens() const { return page_tokens_; }
  const std::vector<CachePlane>& planes() const { return planes_; }
  // Of the first plane: what users call the type of the cache.
  DType dtype() const { return planes_.front().dtype; }

  std::size_t bytes_per_token() const;                   // all layers, all planes
  std::size_t bytes_per_token_and_layer() const;         // all planes of one layer
  std::size_t layer_bytes() const;                       // one layer of one page
  std::size_t page_bytes() const;                        // one page: the stride between pages
  std::size_t plane_offset(int layer, int plane) const;  // from the start of a page

  // From the start of the pool to the first element of `token` (0 .. page_tokens - 1) in `page`.
  std::size_t offset(PageId page, int layer, int plane, int token) const;

  // Pages that `num_tokens` tokens occupy, the last one perhaps in part.
  int pages_for_tokens(int num_tokens) const {
    return (num_tokens + page_tokens_ - 1) / page_tokens_;
  }

  friend bool operator==(const CacheLayout&, const CacheLayout&) = default;

 private:
  CacheLayout(int num_layers, int page_tokens, std::vector<CachePlane> planes);

  int num_layers_;
  int page_tokens_;
  std::vector<CachePlane> planes_;
};

}  // namespace latentd
