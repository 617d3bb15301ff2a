// Attention of absorbed queries over paged latents, for any geometry, fp32, bf16 or fp8: the
// fallback.
//
// One block walks the context of one token for up to eight of its heads, 32 keys at a time in
// ascending order, as an online softmax in fp32. Nothing depends on the other tokens of the step.
#pragma once

#include <cstddef>

#include "engine/backend/cuda/attention_policy.h"
#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/cuda/kernels/fp8_rows.cuh"
#include "engine/backend/cuda/kernels/paged_rows.cuh"
#include "engine/backend/op_params.h"

namespace latentd::cuda {

// Shared memory as attention_shared_bytes counts it.
struct AttentionTile {
  __device__ AttentionTile(float* memory, int heads, int latent_dim, int kv_lora)
      : queries(memory),
        keys(queries + heads * latent_dim),
        sums(keys + kAttentionKeys * attention_row_stride(latent_dim)),
        weights(sums + heads * kv_lora),
        keep(weights + heads * kAttentionKeys) {}

  float* queries;
  float* keys;
  float* sums;
  float* weights;
  float* keep;
};

// The row at `position` as fp32, by a warp.
__device__ inline void load_key(const AbsorbedAttentionParams& p, int slot, int position,
                                int latent_dim, float* out) {
  const int lane = threadIdx.x % kWarp;
  if (p.cache.dtype == DType::kF8E4M3) {
    const Fp8Row row(p.batch, p.cache, p.geometry, slot, position);
    const int latents = p.geometry.kv_lora_rank;
    for (int i = lane; i < latents; i += kWarp) out[i] = row.latent(i);
    for (int i = lane; i < p.geometry.rope_dim; i += kWarp) {
      out[latents + i] = __bfloat162float(row.rope[i]);
    }
    return;
  }
  const std::size_t row_bytes = static_cast<std::size_t>(latent_dim) * dtype_size(p.cache.dtype);
  const ConstElements row{cache_row(p.batch, p.cache, row_bytes, slot, position), p.cache.dtype};
  for (int i = lane; i < latent_dim; i += kWarp) out[i] = row[i];
}

// Keys [first, first + count) of the token's sequence as fp32; nothing past them is read.
__device__ inline void load_keys(const AbsorbedAttentionParams& p, int token, int first, int count,
                                 int latent_dim, float* keys) {
  const int slot = p.batch.token_slots[token];
  for (int j = threadIdx.x / kWarp; j < count; j += kAttentionThreads / kWarp) {
    load_key(p, slot, first + j, latent_dim, keys + j * attention_row_stride(latent_dim));
  }
}

// The running maximum and sum of a head's softmax, held by all lanes of its warp.
struct SoftmaxRun {
  float highest = -INFINITY;
  float sum = 0.0F;
};

// Lane j scores key j; keys from `count` on weigh nothing.
__device__ inline void score_keys(const AttentionTile& tile, int head, int count, int latent_dim,
                                  float scale, SoftmaxRun& run) {
  const int lane = threadIdx.x % kWarp;
  float score = -INFINITY;
  if (lane < count) {
    const float* query = tile.queries + head * latent_dim;
    const float* key = tile.keys + lane * attention_row_stride(latent_dim);
    float dot = 0.0F;
    for (int i = 0; i < latent_dim; ++i) dot = fmaf(query[i], key[i], dot);
    score = dot * scale;
  }
  const float highest = fmaxf(run.highest, warp_reduce(score, Max{}));
  const float keep = expf(run.highest - highest);
  const float weight = lane < count ? expf(score - highest) : 0.0F;
  run.sum = run.sum * keep + warp_reduce(weight, Sum{});
  run.highest = highest;
  tile.weights[head * kAttentionKeys + lane] = weight;
  if (lane == 0) tile.keep[head] = keep;
}

template <int kHeads>
__device__ void add_values(const AttentionTile& tile, int count, int latent_dim, int kv_lora) {
  for (int c = threadIdx.x; c < kv_lora; c += kAttentionThreads) {
    float sums[kHeads];
#pragma unroll
    for (int h = 0; h < kHeads; ++h) sums[h] = tile.sums[h * kv_lora + c] * tile.keep[h];
    for (int j = 0; j < count; ++j) {
      const float value = tile.keys[j * attention_row_stride(latent_dim) + c];
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        sums[h] = fmaf(tile.weights[h * kAttentionKeys + j], value, sums[h]);
      }
    }
#pragma unroll
    for (int h = 0; h < kHeads; ++h) tile.sums[h * kv_lora + c] = sums[h];
  }
}

// Grid: (tokens, groups of kHeads heads).
template <int kHeads>
__global__ void __launch_bounds__(kAttentionThreads)
    absorbed_attention_kernel(AbsorbedAttentionParams p, DType activation) {
  extern __shared__ float memory[];
  const MlaGeometry& g = p.geometry;
  const int latent_dim = g.kv_lora_rank + g.rope_dim;
  const AttentionTile tile(memory, kHeads, latent_dim, g.kv_lora_rank);
  // The longest contexts of a row first.
  const int token = static_cast<int>(gridDim.x - 1 - blockIdx.x);
  if (!in_rows(p.batch, token)) return;
  const int first_head = static_cast<int>(blockIdx.y) * kHeads;
  const std::size_t first_row = static_cast<std::size_t>(token) * g.num_heads + first_head;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;

  const ConstElements queries{p.absorbed, activation};
  for (int i = threadIdx.x; i < kHeads * latent_dim; i += kAttentionThreads) {
    const bool exists = first_head + i / latent_dim < g.num_heads;
    tile.queries[i] = exists ? queries[first_row * latent_dim + i] : 0.0F;
  }
  for (int i = threadIdx.x; i < kHeads * g.kv_lora_rank; i += kAttentionThreads)
    tile.sums[i] = 0.0F;

  SoftmaxRun run;
  // Padding sees no key, and becomes zero.
  const int num_keys = p.batch.token_slots[token] < 0 ? 0 : p.batch.positions[token] + 1;
  for (int first = 0; first < num_keys; first += kAttentionKeys) {
    const int count = min(kAttentionKeys, num_keys - first);
    __syncthreads();
    load_keys(p, token, first, count, latent_dim, tile.keys);
    __syncthreads();
    if (warp < kHeads) score_keys(tile, warp, count, latent_dim, g.softmax_scale, run);
    __syncthreads();
    add_values<kHeads>(tile, count, latent_dim, g.kv_lora_rank);
  }

  __syncthreads();
  if (warp < kHeads && threadIdx.x % kWarp == 0)
    tile.keep[warp] = run.sum > 0.0F ? 1.0F / run.sum : 0.0F;
  __syncthreads();
  const Elements out{p.out, activation};
  for (int i = threadIdx.x; i < kHeads * g.kv_lora_rank; i += kAttentionThreads) {
    const int head = i / g.kv_lora_rank;
    if (first_head + head >= g.num_heads) break;
    out.set(first_row * g.kv_lora_rank + i, tile.sums[i] * tile.keep[head]);
  }
}

// absorbed[t, h, kv_lora ...] = the rotated part of the query. Grid: tokens.
__global__ void copy_rope_kernel(AbsorbQueryParams p, DType activation) {
  const MlaGeometry& g = p.geometry;
  const ConstElements q{p.q, activation};
  const Elements absorbed{p.absorbed, activation};
  const int qk_dim = g.nope_dim + g.rope_dim;
  const int latent_dim = g.kv_lora_rank + g.rope_dim;
  for (int i = threadIdx.x; i < g.num_heads * g.rope_dim; i += blockDim.x) {
    const std::size_t row = static_cast<std::size_t>(blockIdx.x) * g.num_heads + i / g.rope_dim;
    const int at = i % g.rope_dim;
    absorbed.set(row * latent_dim + g.kv_lora_rank + at, q[row * qk_dim + g.nope_dim + at]);
  }
}

}  // namespace latentd::cuda
