// rope_append: one block a token rotates its queries and writes its cache row.
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

__global__ void rope_append_kernel(RopeAppendParams p, DType activation) {
  __shared__ float shared[kBlockShared];
  const MlaGeometry& g = p.geometry;
  const int t = static_cast<int>(blockIdx.x);
  const int half = g.rope_dim / 2;
  const int latent_dim = g.kv_lora_rank + g.rope_dim;
  const int position = p.batch.positions[t];
  const float* cosine = p.rope_cos + static_cast<std::size_t>(position) * half;
  const float* sine = p.rope_sin + static_cast<std::size_t>(position) * half;

  const Elements q{p.q, activation};
  const int qk_dim = g.nope_dim + g.rope_dim;
  for (int i = threadIdx.x; i < g.num_heads * half; i += blockDim.x) {
    const RopePair pair(i % half, g.rope_dim, g.rope_interleaved);
    const std::size_t head =
        (static_cast<std::size_t>(t) * g.num_heads + i / half) * qk_dim + g.nope_dim;
    const float a = q[head + pair.a];
    const float b = q[head + pair.b];
    q.set(head + pair.a, a * cosine[i % half] - b * sine[i % half]);
    q.set(head + pair.b, b * cosine[i % half] + a * sine[i % half]);
  }

  if (p.batch.token_slots[t] < 0) return;  // padding
  const ConstElements kv_a{p.kv_a, activation};
  const ConstElements weight{p.kv_a_norm.data, p.kv_a_norm.dtype};
  const std::size_t source = static_cast<std::size_t>(t) * latent_dim;
  const std::size_t row_bytes = static_cast<std::size_t>(latent_dim) * dtype_size(p.cache.dtype);
  const Elements row{cache_row(p.batch, p.cache, row_bytes, p.batch.token_slots[t], position),
                     p.cache.dtype};
  float squares = 0.0F;
  for (int i = threadIdx.x; i < g.kv_lora_rank; i += blockDim.x) {
    squares += kv_a[source + i] * kv_a[source + i];
  }
  squares = block_reduce(squares, Sum{}, shared);
  const float scale =
      1.0F / sqrtf(squares / static_cast<float>(g.kv_lora_rank) + g.latent_norm_eps);
  for (int i = threadIdx.x; i < g.kv_lora_rank; i += blockDim.x) {
    row.set(i, kv_a[source + i] * scale * weight[i]);
  }
  for (int i = threadIdx.x; i < half; i += blockDim.x) {
    const RopePair pair(i, g.rope_dim, g.rope_interleaved);
    const float a = kv_a[source + g.kv_lora_rank + pair.a];
    const float b = kv_a[source + g.kv_lora_rank + pair.b];
    row.set(g.kv_lora_rank + pair.a, a * cosine[i] - b * sine[i]);
    row.set(g.kv_lora_rank + pair.b, b * cosine[i] + a * sine[i]);
  }
}

}  // namespace latentd::cuda
