// How the generic kernels of attention divide their work: pure functions of the shape.
//
// Contract: plain host code, no device needed.
#pragma once

#include <cstddef>

#include "base/dtype.h"

namespace latentd::cuda {

// Types of the latent cache that the generic kernels read and write.
constexpr bool computes_cache(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF8E4M3;
}

// Keys of a tile: one a lane, so that a warp holds the scores of a head.
inline constexpr int kAttentionKeys = 32;
// A warp a head computes scores.
inline constexpr int kAttentionThreads = 256;
inline constexpr int kMostHeadsOfBlock = 8;

// Elements between the rows of a tile in shared memory: odd, so that lanes that read one column of
// 32 rows hit 32 banks.
constexpr int attention_row_stride(int latent_dim) { return latent_dim | 1; }

// Shared memory of a block in which `heads` heads share a pass over the latents, all fp32:
// queries [heads, latent_dim], a tile of keys, sums [heads, kv_lora], weights [heads, 32] and what
// is kept of the sums [heads].
constexpr std::size_t attention_shared_bytes(int heads, int kv_lora, int rope) {
  const int latent_dim = kv_lora + rope;
  const auto h = static_cast<std::size_t>(heads);
  const auto tile =
      std::size_t{kAttentionKeys} * static_cast<std::size_t>(attention_row_stride(latent_dim));
  return (h * static_cast<std::size_t>(latent_dim + kv_lora + kAttentionKeys + 1) + tile) *
         sizeof(float);
}

// Heads that share a block: as many as useful and as fit, a power of two; 0 when not even one
// fits into `shared_bytes`.
constexpr int attention_heads_of_block(int num_heads, int kv_lora, int rope,
                                       std::size_t shared_bytes) {
  int heads = kMostHeadsOfBlock;
  while (heads > 1 && heads / 2 >= num_heads) heads /= 2;
  while (heads > 0 && attention_shared_bytes(heads, kv_lora, rope) > shared_bytes) heads /= 2;
  return heads;
}

// The same for keys and values of `head_dim`, which a tile holds both of.
constexpr std::size_t grouped_attention_shared_bytes(int heads, int head_dim) {
  return attention_shared_bytes(heads, head_dim, 0) +
         static_cast<std::size_t>(kAttentionKeys * head_dim) * sizeof(float);
}

constexpr int grouped_attention_heads_of_block(int group_size, int head_dim,
                                               std::size_t shared_bytes) {
  int heads = kMostHeadsOfBlock;
  while (heads > 1 && heads / 2 >= group_size) heads /= 2;
  while (heads > 0 && grouped_attention_shared_bytes(heads, head_dim) > shared_bytes) heads /= 2;
  return heads;
}

}  // namespace latentd::cuda
