// prepare, embed, gather, rms_norm and the gated activation: one block a row.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/cuda/kernels/paged_rows.cuh"
#include "engine/backend/op_params.h"

namespace latentd::cuda {

// Updates apply in order, as far as anybody can see: of those of one entry the last is written.
__device__ inline bool is_last_update(const PrepareParams& p, int i) {
  const SlotUpdate update = p.updates[i];
  for (int j = i + 1; j < p.num_updates; ++j) {
    if (p.updates[j].slot == update.slot && p.updates[j].index == update.index) return false;
  }
  return true;
}

__global__ void prepare_kernel(PrepareParams p) {
  const int step = static_cast<int>(gridDim.x * blockDim.x);
  const int first = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  for (int i = first; i < p.num_updates; i += step) {
    if (!is_last_update(p, i)) continue;
    const SlotUpdate update = p.updates[i];
    p.page_table[static_cast<std::size_t>(update.slot) * p.max_pages + update.index] = update.page;
  }
  for (int i = first; i < p.num_tokens; i += step) {
    if (p.tokens[i] == -1) p.tokens[i] = p.last_tokens[p.token_slots[i]];
  }
}

// A token outside the vocabulary becomes NaN: its row is then reported as not finite, and no
// memory beyond the table is read.
__global__ void embed_kernel(const TokenId* tokens, ConstElements table, std::int64_t vocab,
                             int width, Elements out) {
  const std::size_t t = blockIdx.x;
  const TokenId token = tokens[t];
  const bool known = token >= 0 && token < vocab;
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    const float value =
        known ? table[static_cast<std::size_t>(token) * width + i] : __int_as_float(0x7fc00000);
    out.set(t * width + i, value);
  }
}

__global__ void gather_kernel(ConstElements hidden, const std::int32_t* token_indices, int width,
                              Elements out) {
  const std::size_t row = blockIdx.x;
  const auto source = static_cast<std::size_t>(token_indices[row]);
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    out.set(row * width + i, hidden[source * width + i]);
  }
}

__global__ void copy_row_tokens_kernel(BatchView batch, ConstElements x, Elements out, int width) {
  const int token = static_cast<int>(blockIdx.x);
  if (!in_rows(batch, token)) return;
  const std::size_t first = static_cast<std::size_t>(token) * width;
  for (int i = threadIdx.x; i < width; i += blockDim.x) out.set(first + i, x[first + i]);
}

// out may be x: every thread reads and writes the same elements.
__global__ void rms_norm_kernel(RmsNormParams p, DType activation) {
  __shared__ float shared[kBlockShared];
  const ConstElements x{p.x, activation};
  const ConstElements weight{p.weight.data, p.weight.dtype};
  const Elements out{p.out, activation};
  const std::size_t x_row = static_cast<std::size_t>(blockIdx.x) * p.x_stride;
  const std::size_t out_row = static_cast<std::size_t>(blockIdx.x) * p.out_stride;
  float squares = 0.0F;
  for (int i = threadIdx.x; i < p.dim; i += blockDim.x) squares += x[x_row + i] * x[x_row + i];
  squares = block_reduce(squares, Sum{}, shared);
  const float scale = 1.0F / sqrtf(squares / static_cast<float>(p.dim) + p.eps);
  for (int i = threadIdx.x; i < p.dim; i += blockDim.x) {
    out.set(out_row + i, x[x_row + i] * scale * weight[i]);
  }
}

constexpr int kNormVector = 8;  // bf16 elements of 16 bytes
constexpr int kMostNormThreads = 1024;

// The same for bf16 rows of whole vectors: a thread keeps its one in registers.
__global__ void __launch_bounds__(kMostNormThreads) rms_norm_bf16_kernel(RmsNormParams p) {
  __shared__ float shared[kBlockShared];
  const auto* x =
      static_cast<const __nv_bfloat16*>(p.x) + static_cast<std::size_t>(blockIdx.x) * p.x_stride;
  const int first = static_cast<int>(threadIdx.x) * kNormVector;
  const bool mine = first < p.dim;
  union Vector {
    uint4 bits;
    __nv_bfloat162 pairs[kNormVector / 2];
  };
  Vector values{};
  Vector weights{};
  if (mine) {
    values.bits = *reinterpret_cast<const uint4*>(x + first);
    weights.bits =
        *reinterpret_cast<const uint4*>(static_cast<const __nv_bfloat16*>(p.weight.data) + first);
  }
  float squares = 0.0F;
  for (const __nv_bfloat162 pair : values.pairs) {
    const float2 v = __bfloat1622float2(pair);
    squares += v.x * v.x + v.y * v.y;
  }
  squares = block_reduce(squares, Sum{}, shared);
  if (!mine) return;
  const float scale = 1.0F / sqrtf(squares / static_cast<float>(p.dim) + p.eps);
  for (int i = 0; i < kNormVector / 2; ++i) {
    const float2 v = __bfloat1622float2(values.pairs[i]);
    const float2 w = __bfloat1622float2(weights.pairs[i]);
    values.pairs[i] = __floats2bfloat162_rn(v.x * scale * w.x, v.y * scale * w.y);
  }
  auto* out =
      static_cast<__nv_bfloat16*>(p.out) + static_cast<std::size_t>(blockIdx.x) * p.out_stride;
  *reinterpret_cast<uint4*>(out + first) = values.bits;
}

// gate[i] = silu(gate[i]) * up[i]
__global__ void silu_multiply_kernel(Elements gate, ConstElements up, std::size_t count) {
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += step) {
    gate.set(i, silu(gate[i]) * up[i]);
  }
}

}  // namespace latentd::cuda
