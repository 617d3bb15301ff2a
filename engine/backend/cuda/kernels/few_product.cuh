// Products of a few tokens as links of a chain of dependent launches.
//
// A block has kSlabs * 16 columns of one matrix and one head, and the whole of k, which its warps
// share, kFewRound chunks each at a time. A lane's weights wait in registers before the launch
// ahead has ended: of the rows that mma.m16n8k16 gives it (g = lane / 4 and g + 8) eight successive
// values of k, piece lane % 4 of a chunk of 32. Which k a lane holds is of no matter to a sum as
// long as the tokens' side holds the same: a token is read in the same pieces, and the fragments of
// two products are the halves of two pieces. No value goes through shared memory before it is a
// sum.
#pragma once

#include <cstddef>

#include "engine/backend/cuda/few_tokens.h"
#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/dependent_launch.cuh"
#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/cuda/kernels/tensor_core.cuh"

namespace latentd::cuda {

constexpr int kFewTile = 8;   // tokens that share a pass
constexpr int kFewRound = 4;  // chunks of k that a warp holds at once: even

// Weights are read once: past L1, and before whatever follows in the program.
__device__ inline uint4 load_weights(const __nv_bfloat16* from) {
  uint4 piece;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(piece.x), "=r"(piece.y), "=r"(piece.z), "=r"(piece.w)
               : "l"(from));
  return piece;
}

__device__ inline float squares_of(const uint4 (&x)[kFewRound]) {
  float sum = 0.0F;
#pragma unroll
  for (int i = 0; i < kFewRound; ++i) {
    float values[kFewPiece];
    unpack_eight(x[i], values);
#pragma unroll
    for (int j = 0; j < kFewPiece; ++j) sum += values[j] * values[j];
  }
  return sum;
}

template <int kSlabs>
struct FewWeights {
  uint4 pieces[kFewRound][kSlabs][2];
  uint4 norm[kFewRound];
};

template <int kSlabs, int kWarps>
struct FewBlock {
  const FewProduct& p;
  FewMatrix matrix;
  int first_column;
  int warp = static_cast<int>(threadIdx.x) / kWarp;
  int group = static_cast<int>(threadIdx.x) % kWarp / 4;
  int piece = static_cast<int>(threadIdx.x) % 4 * kFewPiece;
  int head = static_cast<int>(blockIdx.y);

  __device__ explicit FewBlock(const FewProduct& product) : p(product) {
    constexpr int kColumns = kSlabs * kFewColumns;
    const int blocks = (p.matrices[0].columns + kColumns - 1) / kColumns;
    const bool second = static_cast<int>(blockIdx.x) >= blocks;
    matrix.w = second ? p.matrices[1].w : p.matrices[0].w;
    matrix.out = second ? p.matrices[1].out : p.matrices[0].out;
    matrix.columns = second ? p.matrices[1].columns : p.matrices[0].columns;
    first_column = (static_cast<int>(blockIdx.x) - (second ? blocks : 0)) * kColumns;
  }

  // Two successive chunks of a warp share a line of memory. Past the end: false.
  __device__ bool chunk(int round, int i, int& k) const {
    k = (((round * kFewRound + i) / 2 * kWarps + warp) * 2 + i % 2) * kFewChunk + piece;
    return k < p.inner;
  }
  __device__ int rounds() const {
    constexpr int kDepth = kFewRound * kWarps * kFewChunk;
    return (p.inner + kDepth - 1) / kDepth;
  }

  __device__ void load(int round, FewWeights<kSlabs>& to) const {
    const auto* w = static_cast<const __nv_bfloat16*>(matrix.w) + head * p.w_head_stride;
#pragma unroll
    for (int i = 0; i < kFewRound; ++i) {
      int k = 0;
      const bool inside = chunk(round, i, k);
#pragma unroll
      for (int s = 0; s < kSlabs; ++s) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int column = first_column + s * kFewColumns + half * 8 + group;
          to.pieces[i][s][half] = uint4{};
          if (inside && column < matrix.columns) {
            to.pieces[i][s][half] =
                load_weights(w + static_cast<std::int64_t>(column) * p.inner + k);
          }
        }
      }
      to.norm[i] = uint4{};
      if (inside && p.norm != nullptr) {
        to.norm[i] = load_weights(static_cast<const __nv_bfloat16*>(p.norm) + k);
      }
    }
  }

  // The pieces of token `token`; zeros where there is none. What other launches wrote is read past
  // L1.
  __device__ void load_tokens(int round, int token, uint4 (&to)[kFewRound]) const {
    const auto* x = static_cast<const __nv_bfloat16*>(p.x) +
                    (static_cast<std::int64_t>(token) * p.num_heads + head) * p.inner;
#pragma unroll
    for (int i = 0; i < kFewRound; ++i) {
      int k = 0;
      to[i] = uint4{};
      if (chunk(round, i, k) && token < p.num_tokens) {
        to[i] = __ldcg(reinterpret_cast<const uint4*>(x + k));
      }
    }
  }

  // 1 / root mean square of each group's token. `squares` [kWarps, 8].
  __device__ float scale_of(int token, const uint4 (&first)[kFewRound],
                            float (*squares)[kFewTile]) const {
    float sum = squares_of(first);
    for (int round = 1; round < rounds(); ++round) {
      uint4 x[kFewRound];
      load_tokens(round, token, x);
      sum += squares_of(x);
    }
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    sum += __shfl_xor_sync(kAllLanes, sum, 2);
    if (threadIdx.x % 4 == 0) squares[warp][group] = sum;
    __syncthreads();
    float total = 0.0F;
#pragma unroll
    for (int i = 0; i < kWarps; ++i) total += squares[i][group];
    return 1.0F / sqrtf(total / static_cast<float>(p.inner) + p.norm_eps);
  }
};

__device__ inline uint4 normalise_piece(const uint4& x, const uint4& weight, float scale) {
  float values[kFewPiece];
  float weights[kFewPiece];
  unpack_eight(x, values);
  unpack_eight(weight, weights);
#pragma unroll
  for (int i = 0; i < kFewPiece; ++i) values[i] = values[i] * scale * weights[i];
  return pack_eight(values);
}

template <int kSlabs>
__device__ inline void multiply_round(float (&acc)[kSlabs][4], const FewWeights<kSlabs>& w,
                                      const uint4 (&x)[kFewRound]) {
#pragma unroll
  for (int i = 0; i < kFewRound; ++i) {
#pragma unroll
    for (int s = 0; s < kSlabs; ++s) {
      const uint4& low = w.pieces[i][s][0];
      const uint4& high = w.pieces[i][s][1];
      const std::uint32_t a[2][4] = {{low.x, high.x, low.y, high.y},
                                     {low.z, high.z, low.w, high.w}};
      multiply_add(acc[s], a[0], x[i].x, x[i].y);
      multiply_add(acc[s], a[1], x[i].z, x[i].w);
    }
  }
}

// Grid: (blocks of both matrices' columns, heads).
template <int kSlabs, int kWarps>
__global__ void __launch_bounds__(kWarps* kWarp, 16 / kWarps)
    few_product_kernel(const __grid_constant__ FewProduct p) {
  constexpr int kColumns = kSlabs * kFewColumns;
  __shared__ float sums[kWarps][kFewTile][kColumns + 1];
  __shared__ float squares[kWarps][kFewTile];
  const FewBlock<kSlabs, kWarps> block(p);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  let_next_launch_begin();
  FewWeights<kSlabs> weights;
  block.load(0, weights);
  await_previous_launch();
  for (int first = 0; first < p.num_tokens; first += kFewTile) {
    const int token = first + block.group;
    uint4 x[kFewRound];
    block.load_tokens(0, token, x);
    const float scale = p.norm == nullptr ? 1.0F : block.scale_of(token, x, squares);
    float acc[kSlabs][4] = {};
    for (int round = 0; round < block.rounds(); ++round) {
      if (round > 0) block.load_tokens(round, token, x);
      if (round > 0 || (first > 0 && block.rounds() > 1)) block.load(round, weights);
      if (p.norm != nullptr) {
#pragma unroll
        for (int i = 0; i < kFewRound; ++i) x[i] = normalise_piece(x[i], weights.norm[i], scale);
      }
      multiply_round(acc, weights, x);
    }
#pragma unroll
    for (int s = 0; s < kSlabs; ++s) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        sums[block.warp][lane % 4 * 2 + i % 2][s * kFewColumns + i / 2 * 8 + block.group] =
            acc[s][i];
      }
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < kColumns * kFewTile; i += kWarps * kWarp) {
      const int column = i % kColumns;
      const int row = first + i / kColumns;
      const int at = block.first_column + column;
      if (row >= p.num_tokens || at >= block.matrix.columns) continue;
      float sum = 0.0F;
#pragma unroll
      for (int warp = 0; warp < kWarps; ++warp) sum += sums[warp][i / kColumns][column];
      auto* out =
          static_cast<__nv_bfloat16*>(block.matrix.out) +
          (static_cast<std::int64_t>(row) * p.num_heads + block.head) * block.matrix.columns + at;
      *out = __float2bfloat16_rn(sum + (p.accumulate ? __bfloat162float(*out) : 0.0F));
    }
    __syncthreads();
  }
}

}  // namespace latentd::cuda
