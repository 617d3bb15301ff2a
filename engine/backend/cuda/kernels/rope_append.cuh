// rope_append: queries rotated in place, and one cache row a token.
#pragma once

#include <cstddef>

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/cuda/kernels/paged_rows.cuh"
#include "engine/backend/op_params.h"

namespace latentd::cuda {

// Pair i of the rope dimensions lies at `a` and `b` of them (arXiv:2104.09864); pairs keep their
// places.
struct RopePair {
  __device__ RopePair(int i, int rope_dim, bool interleaved)
      : a(interleaved ? 2 * i : i), b(interleaved ? 2 * i + 1 : i + rope_dim / 2) {}
  int a;
  int b;
};

// The cosines and sines of a position.
struct RopeAngles {
  __device__ RopeAngles(const RopeAppendParams& p, int position)
      : cosine(p.rope_cos + static_cast<std::size_t>(position) * (p.geometry.rope_dim / 2)),
        sine(p.rope_sin + static_cast<std::size_t>(position) * (p.geometry.rope_dim / 2)) {}
  const float* cosine;
  const float* sine;
};

__device__ inline void rotate_queries(const RopeAppendParams& p, int t, DType activation) {
  const MlaGeometry& g = p.geometry;
  const int half = g.rope_dim / 2;
  const int qk_dim = g.nope_dim + g.rope_dim;
  const RopeAngles angles(p, p.batch.positions[t]);
  const Elements q{p.q, activation};
  for (int i = threadIdx.x; i < g.num_heads * half; i += blockDim.x) {
    const int at = i % half;
    const RopePair pair(at, g.rope_dim, g.rope_interleaved);
    const std::size_t head =
        (static_cast<std::size_t>(t) * g.num_heads + i / half) * qk_dim + g.nope_dim;
    const float a = q[head + pair.a];
    const float b = q[head + pair.b];
    q.set(head + pair.a, a * angles.cosine[at] - b * angles.sine[at]);
    q.set(head + pair.b, b * angles.cosine[at] + a * angles.sine[at]);
  }
}

__device__ inline void append_row(const RopeAppendParams& p, int t, DType activation,
                                  float* shared) {
  const MlaGeometry& g = p.geometry;
  const int slot = p.batch.token_slots[t];
  if (slot < 0) return;  // padding
  const int half = g.rope_dim / 2;
  const int latent_dim = g.kv_lora_rank + g.rope_dim;
  const ConstElements kv_a{p.kv_a, activation};
  const std::size_t source = static_cast<std::size_t>(t) * latent_dim;
  float squares = 0.0F;
  for (int i = threadIdx.x; i < g.kv_lora_rank; i += blockDim.x) {
    squares += kv_a[source + i] * kv_a[source + i];
  }
  const int position = p.batch.positions[t];
  const RopeAngles angles(p, position);
  const std::size_t row_bytes = static_cast<std::size_t>(latent_dim) * dtype_size(p.cache.dtype);
  const Elements row{cache_row(p.batch, p.cache, row_bytes, slot, position), p.cache.dtype};
  for (int i = threadIdx.x; i < half; i += blockDim.x) {
    const RopePair pair(i, g.rope_dim, g.rope_interleaved);
    const float a = kv_a[source + g.kv_lora_rank + pair.a];
    const float b = kv_a[source + g.kv_lora_rank + pair.b];
    row.set(g.kv_lora_rank + pair.a, a * angles.cosine[i] - b * angles.sine[i]);
    row.set(g.kv_lora_rank + pair.b, b * angles.cosine[i] + a * angles.sine[i]);
  }
  squares = block_reduce(squares, Sum{}, shared);
  const float scale =
      1.0F / sqrtf(squares / static_cast<float>(g.kv_lora_rank) + g.latent_norm_eps);
  const ConstElements weight{p.kv_a_norm.data, p.kv_a_norm.dtype};
  for (int i = threadIdx.x; i < g.kv_lora_rank; i += blockDim.x) {
    row.set(i, kv_a[source + i] * scale * weight[i]);
  }
}

// Grid: (tokens, 2): one block writes the cache row, the other rotates the queries.
__global__ void rope_append_kernel(RopeAppendParams p, DType activation) {
  __shared__ float shared[kBlockShared];
  const int t = static_cast<int>(blockIdx.x);
  if (blockIdx.y == 0) {
    append_row(p, t, activation, shared);
  } else {
    rotate_queries(p, t, activation);
  }
}

}  // namespace latentd::cuda
