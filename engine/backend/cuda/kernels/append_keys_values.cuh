// append_keys_values: queries rotated in place, and rotated keys and values into the cache.
#pragma once

#include <cstddef>

#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/cuda/kernels/key_value_rows.cuh"
#include "engine/backend/cuda/kernels/rope_append.cuh"
#include "engine/backend/op_params.h"

namespace latentd::cuda {

// to[h] = from[h] rotated, for `heads` heads of head_dim that lie behind one another.
__device__ inline void rotate_heads(const GqaGeometry& g, int heads, const float* cosine,
                                    const float* sine, const ConstElements& from,
                                    std::size_t from_offset, const Elements& to,
                                    std::size_t to_offset) {
  const int half = g.head_dim / 2;
  for (int i = threadIdx.x; i < heads * half; i += blockDim.x) {
    const int at = i % half;
    const auto head = static_cast<std::size_t>(i / half) * g.head_dim;
    const RopePair pair(at, g.head_dim, g.rope_interleaved);
    const float a = from[from_offset + head + pair.a];
    const float b = from[from_offset + head + pair.b];
    to.set(to_offset + head + pair.a, a * cosine[at] - b * sine[at]);
    to.set(to_offset + head + pair.b, b * cosine[at] + a * sine[at]);
  }
}

// Grid: (tokens, 2): one block writes the cache, the other rotates the queries.
__global__ void append_keys_values_kernel(AppendKeysValuesParams p, DType activation) {
  const GqaGeometry& g = p.geometry;
  const auto t = static_cast<std::size_t>(blockIdx.x);
  const int position = p.batch.positions[t];
  const float* cosine = p.rope_cos + static_cast<std::size_t>(position) * (g.head_dim / 2);
  const float* sine = p.rope_sin + static_cast<std::size_t>(position) * (g.head_dim / 2);
  if (blockIdx.y == 1) {
    const std::size_t first = t * g.num_heads * g.head_dim;
    rotate_heads(g, g.num_heads, cosine, sine, {p.q, activation}, first, {p.q, activation}, first);
    return;
  }
  const int slot = p.batch.token_slots[t];
  if (slot < 0) return;  // padding
  const int kv_dim = g.num_kv_heads * g.head_dim;
  const KeyValueRows rows(p.batch, p.cache, g, slot, position);
  rotate_heads(g, g.num_kv_heads, cosine, sine, {p.k, activation}, t * kv_dim,
               {rows.key, p.cache.dtype}, 0);
  const ConstElements v{p.v, activation};
  const Elements value{rows.value, p.cache.dtype};
  for (int i = threadIdx.x; i < kv_dim; i += blockDim.x) value.set(i, v[t * kv_dim + i]);
}

}  // namespace latentd::cuda
