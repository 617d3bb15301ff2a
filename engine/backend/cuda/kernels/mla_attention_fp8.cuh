// Absorbed attention at 512 + 64 over an fp8 cache on sm_90a: codes are widened in registers.
//
// A warp copies keys, two warpgroups work, each for itself: it scores a key tile, makes weights of
// the scores and adds the weighted values. Every e4m3 code is an fp16 number, and products of a
// warpgroup take their first operand from registers: so keys are the rows of S^T = K Q^T [64 keys,
// queries] and latents those of O^T = V^T P^T [512, queries], and codes go from shared memory
// through registers into the tensor cores without being written again. The queries are the columns,
// 16 or 32 of them; where a piece has more, its keys are read again. The workers take the key tiles
// in turns and join their sums at the end of a piece.
//
// A key's scales multiply sums of scores, one for each scale group, in fp32; and its weights, in
// fp16, one product with each group's, over the largest scale so far, U, and times 2^9: sums of
// values are in units of U / 2^9. Queries become fp16 by a power of two of their own.
//
// How a step is divided is that of mla_attention.cuh; pieces of a unit are merged by
// mla_fp8_merge.cuh.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "engine/backend/cuda/kernels/hopper.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_copy.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_merge.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_tile.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_worker.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

// A worker, through all pieces.
template <int kCopiedKeys, int kQueries>
__device__ void mla_fp8_work(const MlaFp8Tile& tile, const MlaAttentionParams& p, MlaPieces& pieces,
                             int worker, int rank, std::uint32_t launch) {
  MlaFp8Progress done;
  done.launch = launch;
  const int thread = static_cast<int>(threadIdx.x) % MlaFp8Tile::kGroupThreads;
  if (thread < 2) tile.exceeded(worker, thread) = 0;
  for (; pieces.more(); pieces.next()) {
    const MlaPiece& piece = mla_fp8_place_piece(tile, pieces.piece, worker);
#pragma unroll 1
    for (int first = 0;; first += kQueries) {
      MlaRows rows(piece, p.division, rank);
      if (first >= rows.count) break;
      rows.first += first;
      rows.row += first;
      const bool more = rows.count > first + kQueries || pieces.number + 1 < pieces.count;
      rows.count = min(rows.count - first, kQueries);
      mla_fp8_work_piece<kCopiedKeys, kQueries>(
          tile, p, piece, rows, mla_partial_row(piece, p.division, piece.index, rank) + first, more,
          worker, done);
    }
    if (launch == 0 && piece.count > 1 && MlaRows(piece, p.division, rank).count > 0) {
      mla_arrive(mla_counter(p, piece, rank), threadIdx.x % MlaTile::kValueThreads == 0);
    }
  }
}

// Grid: shares * group CTAs, all resident. CTA b is of share b / group.
template <int kCopiedKeys, int kQueries>
__global__ void __launch_bounds__(MlaFp8Tile::kThreads, 1)
    mla_attention_fp8_kernel(const __grid_constant__ CUtensorMap queries,
                             const __grid_constant__ CUtensorMap codes,
                             const __grid_constant__ CUtensorMap rope, const MlaAttentionParams p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using namespace hopper;
  constexpr int kKeysAt = MlaFp8Tile::kKeys<kQueries>;
  constexpr int kStages = MlaFp8Tile::stages_behind(kKeysAt, kCopiedKeys);
  extern __shared__ char memory[];
  // What the launch before writes are queries and the keys of this step.
  if (!p.known) wait_for_last_launch();
  const int share = static_cast<int>(blockIdx.x) / p.division.group;
  const int rank = static_cast<int>(blockIdx.x) % p.division.group;
  // In one round of loads with the pieces.
  int known;
  asm volatile("ld.global.s32 %0, [%1];"
               : "=r"(known)
               : "l"(p.pages + share * kMlaKnownPages + threadIdx.x % kWarp));
  MlaPieces pieces(p, share);
  if (threadIdx.x == 0) {
    const MlaFp8Tile tile(memory, kKeysAt, kStages);
    for (int s = 0; s < kStages; ++s) {
      barrier_init(tile.full(s), 1);
      barrier_init(tile.empty(s), MlaFp8Tile::kWorkerWarps);
    }
    barrier_init(tile.queries_full(), 1);
    barrier_init(tile.queries_empty(), MlaFp8Tile::kWorkThreads / kWarp);
    fence_barrier_init();
    prefetch_tensor_map(&codes);
    prefetch_tensor_map(&rope);
    prefetch_tensor_map(&queries);
  }
  __syncthreads();
  let_next_launch_begin();
  const MlaFp8Tile tile(memory, kKeysAt, kStages);
  // Workers first: what they share counts from thread 0.
  const int role =
      __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / MlaFp8Tile::kGroupThreads, 0);
  if (role < MlaFp8Tile::kWorkers) {
    take_registers<MlaFp8Tile::kWorkRegisters>();
    wait_for_last_launch();  // it may still read what is written here
    const std::uint32_t launch = p.partials.launches[blockIdx.x];
    mla_fp8_work<kCopiedKeys, kQueries>(tile, p, pieces, role, rank, launch);
    mla_fp8_merge(tile, p, pieces.list, pieces.count, share, role, rank, launch);
  } else {
    give_registers<MlaFp8Tile::kCopyRegisters>();
    const int warp = static_cast<int>(threadIdx.x) % MlaFp8Tile::kGroupThreads / kWarp;
    if (warp == 0) {
      mla_fp8_copy_keys<kCopiedKeys, kQueries>(tile, p, pieces, &codes, &rope, known, rank);
    } else if (warp == 1 && threadIdx.x % kWarp == 0) {
      mla_fp8_copy_queries<kQueries>(tile, p, pieces, &queries, rank);
    }
  }
#endif
}

}  // namespace latentd::cuda
