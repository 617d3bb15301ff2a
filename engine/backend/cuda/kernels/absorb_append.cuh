// Queries rotated and absorbed, and the cache rows of a few tokens, in one launch.
//
// A block of absorption has one head and 64 latents: W_UK of both, [nope, 64], waits in shared
// memory before the launch ahead has ended. It lies there with k as its rows, so fragments are
// loaded transposed; which rows they take follows from the pieces of eight in which a lane reads
// its token (few_product.cuh).
#pragma once

#include <cstddef>

#include "engine/backend/cuda/few_tokens.h"
#include "engine/backend/cuda/kernels/dependent_launch.cuh"
#include "engine/backend/cuda/kernels/rope_append.cuh"
#include "engine/backend/cuda/kernels/tensor_core.cuh"

namespace latentd::cuda {

constexpr int kAbsorbWarps = kAbsorbColumns / 16;
constexpr int kAbsorbThreads = kAbsorbWarps * kWarp;
constexpr int kAbsorbRowBytes = kAbsorbColumns * 2;

// As load_matrices, each matrix transposed.
__device__ inline void load_transposed(std::uint32_t (&to)[4], std::uint32_t from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(from)
               : "memory");
}

// Pieces are placed so that the rows of a fragment, 0, 1, 8, 9, ... 25, do not meet in a bank.
__device__ inline std::uint32_t absorb_piece(std::uint32_t memory, int row, int piece) {
  const int swap = (row & 1) | (row >> 2 & 6);
  return memory + static_cast<std::uint32_t>(row * kAbsorbRowBytes + (piece ^ swap) * 16);
}

__device__ inline void absorb(const AbsorbAppend& p, int head, int first_column,
                              std::uint32_t memory) {
  const MlaGeometry& g = p.rope.geometry;
  const auto* w = static_cast<const __nv_bfloat16*>(p.kv_b) +
                  static_cast<std::int64_t>(head) * (g.nope_dim + g.v_dim) * g.kv_lora_rank +
                  first_column;
  for (int i = static_cast<int>(threadIdx.x); i < g.nope_dim * 8; i += kAbsorbThreads) {
    copy_piece(absorb_piece(memory, i / 8, i % 8),
               w + static_cast<std::int64_t>(i / 8) * g.kv_lora_rank + i % 8 * 8, true);
  }
  commit_copies();
  await_previous_launch();
  wait_copies<0>();
  __syncthreads();

  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  // Row r of the fragment's k is value 2 (r / 8) + r % 2 of piece r % 8 / 2, or of its other half.
  const int r = lane / 16 * 8 + lane % 8;
  const int k_of_row = r % 8 / 2 * kFewPiece + r / 8 * 2 + r % 2;
  const int column_piece = warp * 2 + lane / 8 % 2;
  const int latent_dim = g.kv_lora_rank + g.rope_dim;
  for (int first = 0; first < p.rope.batch.num_tokens; first += 8) {
    const int token = first + lane / 4;
    const bool inside = token < p.rope.batch.num_tokens;
    const auto* q =
        static_cast<const __nv_bfloat16*>(p.rope.q) +
        (static_cast<std::int64_t>(token) * g.num_heads + head) * (g.nope_dim + g.rope_dim) +
        lane % 4 * kFewPiece;
    float acc[4] = {};
    for (int k = 0; k < g.nope_dim; k += kFewChunk) {
      uint4 x = {};
      if (inside) x = __ldcg(reinterpret_cast<const uint4*>(q + k));
      std::uint32_t a[4];
      load_transposed(a, absorb_piece(memory, k + k_of_row, column_piece));
      multiply_add(acc, a, x.x, x.y);
      load_transposed(a, absorb_piece(memory, k + k_of_row + 4, column_piece));
      multiply_add(acc, a, x.z, x.w);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = first + lane % 4 * 2 + i % 2;
      if (row >= p.rope.batch.num_tokens) continue;
      auto* out = static_cast<__nv_bfloat16*>(p.absorbed) +
                  (static_cast<std::int64_t>(row) * g.num_heads + head) * latent_dim;
      out[first_column + warp * 16 + i / 2 * 8 + lane / 4] = __float2bfloat16_rn(acc[i]);
    }
  }
}

// The rope parts of a token's queries, rotated, into `absorbed`.
__device__ inline void rotate_into(const AbsorbAppend& p, int t) {
  const MlaGeometry& g = p.rope.geometry;
  const int half = g.rope_dim / 2;
  const RopeAngles angles(p.rope, p.rope.batch.positions[t]);
  for (int i = static_cast<int>(threadIdx.x); i < g.num_heads * half; i += kAbsorbThreads) {
    const int at = i % half;
    const RopePair pair(at, g.rope_dim, g.rope_interleaved);
    const auto row = static_cast<std::int64_t>(t) * g.num_heads + i / half;
    const auto* q =
        static_cast<const __nv_bfloat16*>(p.rope.q) + row * (g.nope_dim + g.rope_dim) + g.nope_dim;
    auto* out = static_cast<__nv_bfloat16*>(p.absorbed) + row * (g.kv_lora_rank + g.rope_dim) +
                g.kv_lora_rank;
    const float a = __bfloat162float(q[pair.a]);
    const float b = __bfloat162float(q[pair.b]);
    out[pair.a] = __float2bfloat16_rn(a * angles.cosine[at] - b * angles.sine[at]);
    out[pair.b] = __float2bfloat16_rn(b * angles.cosine[at] + a * angles.sine[at]);
  }
}

// Grid: blocks of absorption, then two a token: its cache row, its queries' rope parts.
__global__ void __launch_bounds__(kAbsorbThreads)
    absorb_append_kernel(const __grid_constant__ AbsorbAppend p) {
  extern __shared__ __align__(128) char absorb_memory[];
  __shared__ float shared[kBlockShared];
  const MlaGeometry& g = p.rope.geometry;
  const int columns = g.kv_lora_rank / kAbsorbColumns;
  const int block = static_cast<int>(blockIdx.x);
  let_next_launch_begin();
  if (block < g.num_heads * columns) {
    absorb(p, block / columns, block % columns * kAbsorbColumns, shared_address(absorb_memory));
    return;
  }
  await_previous_launch();
  const int task = block - g.num_heads * columns;
  if (task % 2 == 0) {
    append_row(p.rope, task / 2, DType::kBF16, shared);
  } else {
    rotate_into(p, task / 2);
  }
}

}  // namespace latentd::cuda
