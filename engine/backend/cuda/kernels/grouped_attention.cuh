// Attention over paged keys and values (MHA, GQA, MQA), for any geometry, fp32 or bf16.
//
// One block walks the context of one token for up to eight query heads of one group, 32 keys at a
// time in ascending order, as an online softmax in fp32. Nothing depends on the other tokens of the
// step.
#pragma once

#include <cstddef>

#include "engine/backend/cuda/attention_policy.h"
#include "engine/backend/cuda/kernels/absorbed_attention.cuh"
#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/cuda/kernels/key_value_rows.cuh"
#include "engine/backend/op_params.h"

namespace latentd::cuda {

// Shared memory as grouped_attention_shared_bytes counts it.
struct GroupedTile : AttentionTile {
  __device__ GroupedTile(float* memory, int heads, int head_dim)
      : AttentionTile(memory, heads, head_dim, head_dim), values(keep + heads) {}

  float* values;  // [32, head_dim]
};

// Keys and values [first, first + count) of one head as fp32; nothing past them is read.
__device__ inline void load_keys_values(const GroupedAttentionParams& p, int token, int kv_head,
                                        int first, int count, const GroupedTile& tile) {
  const GqaGeometry& g = p.geometry;
  const int lane = threadIdx.x % kWarp;
  const int slot = p.batch.token_slots[token];
  const auto head = static_cast<std::size_t>(kv_head) * g.head_dim;
  for (int j = threadIdx.x / kWarp; j < count; j += kAttentionThreads / kWarp) {
    const KeyValueRows rows(p.batch, p.cache, g, slot, first + j);
    const ConstElements key{rows.key, p.cache.dtype};
    const ConstElements value{rows.value, p.cache.dtype};
    for (int i = lane; i < g.head_dim; i += kWarp) {
      tile.keys[j * attention_row_stride(g.head_dim) + i] = key[head + i];
      tile.values[j * g.head_dim + i] = value[head + i];
    }
  }
}

template <int kHeads>
__device__ void add_weighted_values(const GroupedTile& tile, int count, int head_dim) {
  for (int c = threadIdx.x; c < head_dim; c += kAttentionThreads) {
    float sums[kHeads];
#pragma unroll
    for (int h = 0; h < kHeads; ++h) sums[h] = tile.sums[h * head_dim + c] * tile.keep[h];
    for (int j = 0; j < count; ++j) {
      const float value = tile.values[j * head_dim + c];
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        sums[h] = fmaf(tile.weights[h * kAttentionKeys + j], value, sums[h]);
      }
    }
#pragma unroll
    for (int h = 0; h < kHeads; ++h) tile.sums[h * head_dim + c] = sums[h];
  }
}

// Grid: (tokens, groups, parts of kHeads heads of a group).
template <int kHeads>
__global__ void __launch_bounds__(kAttentionThreads)
    grouped_attention_kernel(GroupedAttentionParams p, DType activation) {
  extern __shared__ float memory[];
  const GqaGeometry& g = p.geometry;
  const GroupedTile tile(memory, kHeads, g.head_dim);
  // The longest contexts of a row first.
  const int token = static_cast<int>(gridDim.x - 1 - blockIdx.x);
  const int kv_head = static_cast<int>(blockIdx.y);
  const int group = g.num_heads / g.num_kv_heads;
  const int first_in_group = static_cast<int>(blockIdx.z) * kHeads;
  const int heads = min(kHeads, group - first_in_group);
  const std::size_t first =
      (static_cast<std::size_t>(token) * g.num_heads + kv_head * group + first_in_group) *
      g.head_dim;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;

  const ConstElements q{p.q, activation};
  for (int i = threadIdx.x; i < kHeads * g.head_dim; i += kAttentionThreads) {
    tile.queries[i] = i < heads * g.head_dim ? q[first + i] : 0.0F;
    tile.sums[i] = 0.0F;
  }

  SoftmaxRun run;
  // Padding sees no key, and becomes zero.
  const int num_keys = p.batch.token_slots[token] < 0 ? 0 : p.batch.positions[token] + 1;
  for (int at = 0; at < num_keys; at += kAttentionKeys) {
    const int count = min(kAttentionKeys, num_keys - at);
    __syncthreads();
    load_keys_values(p, token, kv_head, at, count, tile);
    __syncthreads();
    if (warp < kHeads) score_keys(tile, warp, count, g.head_dim, g.softmax_scale, run);
    __syncthreads();
    add_weighted_values<kHeads>(tile, count, g.head_dim);
  }

  __syncthreads();
  if (warp < kHeads && threadIdx.x % kWarp == 0) {
    tile.keep[warp] = run.sum > 0.0F ? 1.0F / run.sum : 0.0F;
  }
  __syncthreads();
  const Elements out{p.out, activation};
  for (int i = threadIdx.x; i < heads * g.head_dim; i += kAttentionThreads) {
    out.set(first + i, tile.sums[i] * tile.keep[i / g.head_dim]);
  }
}

}  // namespace latentd::cuda
