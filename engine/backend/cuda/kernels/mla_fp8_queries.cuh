// The 512 + 64 attention over an fp8 cache: the queries of a piece.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/mla_fp8_scores.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_tile.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

// Row r of queries, by a warp: from bf16, as the copy engine leaves them, to latents in fp16 and
// rope values in bf16, both times the same power of two, in the same place. Latents lie in the
// order in which keys are widened: of every 16, the first two of each four, then the others.
__device__ inline void mla_fp8_convert_query(const MlaFp8Tile& tile, const MlaAttentionParams& p,
                                             const MlaRows& rows, int queries_at, int r, int lane) {
  char* group = tile.memory + queries_at + r / 8 * MlaFp8Tile::kQueryGroupBytes + r % 8 * 128;
  char* atom = group + lane / 4 * MlaFp8Tile::kAtomBytes;
  uint4* to[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    to[i] = reinterpret_cast<uint4*>(atom + ((lane % 4 * 2 + i) ^ (r % 8)) * 16);
  }
  uint4* rope_to = reinterpret_cast<uint4*>(group + kMlaLatent / 64 * MlaFp8Tile::kAtomBytes +
                                            (lane % 8 ^ (r % 8)) * 16);
  const bool exists = r < rows.count;
  const uint4 zero = {0, 0, 0, 0};
  const uint4 latents[2] = {exists ? *to[0] : zero, exists ? *to[1] : zero};
  const uint4 rope = exists ? *rope_to : zero;
  const std::uint32_t words[8] = {latents[0].x, latents[0].y, latents[0].z, latents[0].w,
                                  latents[1].x, latents[1].y, latents[1].z, latents[1].w};
  std::uint32_t pairs = 0;  // the largest of the lower and of the upper halves
  const auto see = [&](std::uint32_t pair) { pairs = __vmaxu2(pairs, pair & 0x7fff7fffU); };
#pragma unroll
  for (int i = 0; i < 8; ++i) see(words[i]);
  see(rope.x);
  see(rope.y);
  see(rope.z);
  see(rope.w);
  const std::uint32_t most = __reduce_max_sync(kAllLanes, max(pairs & 0xffffU, pairs >> 16));
  __syncwarp();  // the first lanes write what all have read
  // The largest becomes 2^13 or more, less than 2^14; zeros and what is not finite stay.
  const int exponent = static_cast<int>(most >> 7);
  const int shift =
      exponent == 0 || exponent == 255 ? 0 : max(min(13 - (exponent - 127), 120), -120);
  const float power = __uint_as_float(static_cast<std::uint32_t>(127 + shift) << 23);

  std::uint32_t halves[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const __half2 pair = __floats2half2_rn(__uint_as_float(words[i] << 16) * power,
                                           __uint_as_float(words[i] & 0xffff0000U) * power);
    halves[i] = *reinterpret_cast<const std::uint32_t*>(&pair);
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    *to[i] = uint4{halves[i], halves[2 + i], halves[4 + i], halves[6 + i]};
  }
  if (lane < kMlaRope / 8) {
    const std::uint32_t both = (__float_as_uint(power) >> 16) * 0x10001U;
    *rope_to = uint4{multiply_bf16_pairs(rope.x, both), multiply_bf16_pairs(rope.y, both),
                     multiply_bf16_pairs(rope.z, both), multiply_bf16_pairs(rope.w, both)};
  }
  if (lane == 0) {
    tile.factors()[r] = p.attention.geometry.softmax_scale * 1.44269504088896341F *
                        __uint_as_float(static_cast<std::uint32_t>(127 - shift) << 23);
  }
}

// Queries of a piece, with zeros up to kRows of them, and what is known of each: both workers.
// turn: of the queries.
template <int kRows>
__device__ void mla_fp8_begin_piece(const MlaFp8Tile& tile, const MlaAttentionParams& p,
                                    const MlaPiece& piece, const MlaRows& rows,
                                    std::uint32_t& turn) {
  const int self = static_cast<int>(threadIdx.x);
  constexpr int kWarps = MlaFp8Tile::kWorkThreads / kWarp;
  mla_value_barrier();  // nobody reads what was known in the piece before
  if (self < kRows) {
    tile.limits()[self] =
        min(piece.keys.context, piece.view.start + (rows.first + self) / p.division.heads + 1);
  }
  hopper::barrier_wait(tile.queries_full(), turn);
  turn ^= 1U;
#pragma unroll 1
  for (int r = self / kWarp; r < kRows; r += kWarps) {
    mla_fp8_convert_query(tile, p, rows, MlaFp8Tile::kQueries<kRows>, r, self % kWarp);
  }
  hopper::fence_async_shared();
  mla_value_barrier();
}

// A warp of a worker has read a piece's queries for the last time.
__device__ inline void mla_fp8_end_queries(const MlaFp8Tile& tile, const MlaFp8Thread& self) {
  if (self.lane == 0) hopper::barrier_arrive(tile.queries_empty());
}

}  // namespace latentd::cuda
