// rope_append: queries rotated in place, and one cache row a token.
#pragma once

#include <cstddef>

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/cuda/kernels/fp8_rows.cuh"
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

// Normalised latent i of one token.
struct NormalizedLatents {
  ConstElements kv_a;
  std::size_t source;  // of the token's first latent
  float scale;         // 1 / root mean square
  ConstElements weight;

  __device__ float operator()(int i) const { return kv_a[source + i] * scale * weight[i]; }
};

// Writes the rotated key of one token; put(i, value) stores element i of it.
template <typename Put>
__device__ void rotate_key(const RopeAppendParams& p, const ConstElements& kv_a, std::size_t source,
                           int position, const Put& put) {
  const MlaGeometry& g = p.geometry;
  const RopeAngles angles(p, position);
  for (int i = threadIdx.x; i < g.rope_dim / 2; i += blockDim.x) {
    const RopePair pair(i, g.rope_dim, g.rope_interleaved);
    const float a = kv_a[source + pair.a];
    const float b = kv_a[source + pair.b];
    put(pair.a, a * angles.cosine[i] - b * angles.sine[i]);
    put(pair.b, b * angles.cosine[i] + a * angles.sine[i]);
  }
}

__device__ inline void append_row(const RopeAppendParams& p, int t, DType activation,
                                  float* shared) {
  const MlaGeometry& g = p.geometry;
  const int slot = p.batch.token_slots[t];
  if (slot < 0) return;  // padding
  const int position = p.batch.positions[t];
  const int latent_dim = g.kv_lora_rank + g.rope_dim;
  const ConstElements kv_a{p.kv_a, activation};
  const std::size_t source = static_cast<std::size_t>(t) * latent_dim;
  float squares = 0.0F;
  for (int i = threadIdx.x; i < g.kv_lora_rank; i += blockDim.x) {
    squares += kv_a[source + i] * kv_a[source + i];
  }
  squares = block_reduce(squares, Sum{}, shared);
  const float scale =
      1.0F / sqrtf(squares / static_cast<float>(g.kv_lora_rank) + g.latent_norm_eps);
  const NormalizedLatents latents{kv_a, source, scale, {p.kv_a_norm.data, p.kv_a_norm.dtype}};

  if (p.cache.dtype == DType::kF8E4M3) {
    const Fp8Row row(p.batch, p.cache, g, slot, position);
    rotate_key(p, kv_a, source + g.kv_lora_rank, position,
               [&](int i, float value) { row.rope[i] = __float2bfloat16_rn(value); });
    const int warps = static_cast<int>(blockDim.x) / kWarp;
    for (int first = static_cast<int>(threadIdx.x) / kWarp * kLatentGroup; first < g.kv_lora_rank;
         first += warps * kLatentGroup) {
      store_group(row, first, min(kLatentGroup, g.kv_lora_rank - first), latents);
    }
    return;
  }
  const std::size_t row_bytes = static_cast<std::size_t>(latent_dim) * dtype_size(p.cache.dtype);
  const Elements row{cache_row(p.batch, p.cache, row_bytes, slot, position), p.cache.dtype};
  rotate_key(p, kv_a, source + g.kv_lora_rank, position,
             [&](int i, float value) { row.set(g.kv_lora_rank + i, value); });
  for (int i = threadIdx.x; i < g.kv_lora_rank; i += blockDim.x) row.set(i, latents(i));
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
