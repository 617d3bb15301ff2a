// Absorbed attention at 512 + 64 over an fp8 cache on sm_90a: codes are widened in registers.
//
// A warp copies, two warpgroups work, each for itself: it scores a key tile, makes weights of the
// scores and adds the weighted values. Every e4m3 code is an fp16 number, and products of a
// warpgroup take their first operand from registers: so keys are the rows of S^T = K Q^T [64 keys,
// queries] and latents those of O^T = V^T P^T [512, queries], and codes go from shared memory
// through registers into the tensor cores without being written again. The queries are the columns.
// Up to 32 of them the workers take the key tiles in turns and join their sums at the end of a
// piece; of 64 each has a half, or, where such pieces are expected, they go through pairs of tiles
// together (mla_fp8_wide.cuh).
//
// A key's scales multiply sums of scores, one for each scale group, in fp32; and its weights, in
// fp16, one product with each group's, over the largest scale so far, U, and times 2^9: sums of
// values are in units of U / 2^9. Queries become fp16 by a power of two of their own.
//
// How a step is divided, and how pieces are merged, is that of mla_attention.cuh; but where a unit
// has few pieces the workers leave a part of it each instead of joining their sums.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "engine/backend/cuda/kernels/hopper.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_copy.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_merge.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_parts.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_scale.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_tile.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_wide.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_worker.cuh"
#include "engine/backend/cuda/kernels/mla_merge.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

// kWide: every piece as one of more queries than a worker takes.
template <int kCopiedKeys, bool kWide>
__device__ void mla_fp8_work(const MlaFp8Tile& tile, const MlaAttentionParams& p, MlaPieces& pieces,
                             int worker, int rank) {
  const int thread = static_cast<int>(threadIdx.x) % MlaFp8Tile::kGroupThreads;
  MlaFp8Progress done;
  if (thread < 2) tile.exceeded(worker, thread) = 0;
  for (; pieces.more(); pieces.next()) {
    mla_fp8_worker_barrier(worker);  // nobody reads the piece before
    if (thread == 0) tile.piece(worker) = pieces.piece;
    mla_fp8_worker_barrier(worker);
    const MlaPiece& piece = tile.piece(worker);
    const MlaRows rows(piece, p.division, rank);
    if (rows.count <= 0) continue;
    if constexpr (kWide) {
      mla_fp8_wide_piece<kCopiedKeys>(tile, p, piece, rows, worker, rank, done);
    } else if (rows.count <= 16) {
      mla_fp8_work_piece<kCopiedKeys, 16, false>(tile, p, piece, rows, worker, rank, done);
    } else if (rows.count <= 32) {
      mla_fp8_work_piece<kCopiedKeys, 32, false>(tile, p, piece, rows, worker, rank, done);
    } else {
      mla_fp8_work_piece<kCopiedKeys, 32, true>(tile, p, piece, rows, worker, rank, done);
    }
    if (mla_fp8_leaves_two<kWide>(piece.count, rows.count)) {
      mla_fp8_worker_barrier(worker);
      if (thread == 0) mla_fp8_count(mla_counter(p, piece, rank));
    } else if (piece.count > 1) {
      mla_arrive(mla_counter(p, piece, rank), threadIdx.x == 0);
    }
  }
  if (pieces.count == 1) pieces.piece = tile.piece(worker);
}

// Grid: shares * group CTAs, all resident. CTA b is of share b / group.
template <int kCopiedKeys, bool kWide>
__global__ void __launch_bounds__(MlaFp8Tile::kThreads, 1)
    mla_attention_fp8_kernel(const __grid_constant__ CUtensorMap queries,
                             const __grid_constant__ CUtensorMap codes,
                             const __grid_constant__ CUtensorMap rope, const MlaAttentionParams p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using namespace hopper;
  extern __shared__ char memory[];
  if (threadIdx.x == 0) {
    const MlaFp8Tile tile(memory, kWide, false, 0);
    for (int s = 0; s < MlaFp8Tile::kMostStages; ++s) {
      barrier_init(tile.full(s), 1);
      barrier_init(tile.scaled(s), kWarpArrivals);
      barrier_init(tile.empty(s), MlaFp8Tile::kWorkThreads / kWarp);
    }
    barrier_init(tile.queries_full(), 1);
    barrier_init(tile.queries_empty(), MlaFp8Tile::kWorkThreads / kWarp);
    fence_barrier_init();
    prefetch_tensor_map(&queries);
    prefetch_tensor_map(&codes);
    prefetch_tensor_map(&rope);
  }
  __syncthreads();
  let_next_launch_begin();
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
  const MlaFp8Tile tile(memory, kWide, kCopiedKeys > MlaFp8Tile::kStageKeys, pieces.widest);
  // Workers first: merging counts from thread 0.
  const int role =
      __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / MlaFp8Tile::kGroupThreads, 0);
  if (role < MlaFp8Tile::kWorkers) {
    take_registers<MlaFp8Tile::kWorkRegisters>();
    wait_for_last_launch();  // it may still read what is written here
    mla_fp8_work<kCopiedKeys, kWide>(tile, p, pieces, role, rank);
    MlaTile merging;  // its keys are ours
    merging.memory = tile.memory + tile.keys_at - MlaTile::kKeys;
    merging.address = tile.address + static_cast<std::uint32_t>(tile.keys_at) - MlaTile::kKeys;
    mla_fp8_merge<kWide>(merging, p, pieces, share, rank);
  } else {
    give_registers<MlaFp8Tile::kCopyRegisters>();
    const int warp = static_cast<int>(threadIdx.x) % MlaFp8Tile::kGroupThreads / kWarp;
    constexpr int kCopyWarps = kWide ? 2 : 1;
    if (warp < kCopyWarps) {
      mla_fp8_copy<kCopiedKeys, kCopyWarps, kWide>(tile, p, pieces, &queries, &codes, &rope, known,
                                                   rank, warp);
    }
    if (kWide && warp == kCopyWarps) {
      mla_fp8_scale<kCopiedKeys>(tile, p, pieces, rank);
    }
  }
#endif
}

}  // namespace latentd::cuda
