// Absorbed attention at 512 + 64 over an fp8 cache on sm_90a: codes are widened in registers.
//
// A warp copies, a warp prepares scales, a warpgroup scores, two add values. Every e4m3 code is an
// fp16 number, and products of a warpgroup take their first operand from registers: so keys are the
// rows of S^T = K Q^T [64 keys, queries] and latents those of O^T = V^T P^T [512, queries], and
// codes go from shared memory through registers into the tensor cores without being written again.
// The queries are the columns, 16, 32 or 64 of them, and nothing is padded beyond that.
//
// A key's codes are multiplied by the ratio of their group's scale to the key's largest, R, at most
// one and nearly always exact. Scores are then multiplied by R, in fp32, and weights, in fp16, by R
// over the largest R so far, U, and 2^14, so that they use the whole range of fp16; sums of values
// are in units of U / 2^14. Queries become fp16 by a power of two of their own.
//
// How a step is divided, and how pieces are merged, is that of mla_attention.cuh.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "engine/backend/cuda/kernels/hopper.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_copy.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_scores.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_tile.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_values.cuh"
#include "engine/backend/cuda/kernels/mla_merge.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

// Grid: shares * group CTAs, all resident. CTA b is of share b / group.
template <int kCopiedKeys>
__global__ void __launch_bounds__(MlaFp8Tile::kThreads, 1)
    mla_attention_fp8_kernel(const __grid_constant__ CUtensorMap codes,
                             const __grid_constant__ CUtensorMap rope, const MlaAttentionParams p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using namespace hopper;
  extern __shared__ char memory[];
  MlaFp8Tile tile;
  const std::uint32_t unaligned = shared_address(memory);
  tile.address =
      (unaligned + MlaFp8Tile::kAtomBytes - 1) / MlaFp8Tile::kAtomBytes * MlaFp8Tile::kAtomBytes;
  tile.memory = memory + (tile.address - unaligned);
  if (threadIdx.x == 0) {
    for (int s = 0; s < MlaFp8Tile::kStages; ++s) {
      barrier_init(tile.full(s), 1);
      barrier_init(tile.scaled(s), 1);
      barrier_init(tile.empty(s), MlaFp8Tile::kValueWarps);
    }
    barrier_init(tile.weights_full(), MlaFp8Tile::kScoreWarps);
    barrier_init(tile.weights_empty(), MlaFp8Tile::kValueWarps);
    fence_barrier_init();
    prefetch_tensor_map(&codes);
    prefetch_tensor_map(&rope);
  }
  __syncthreads();
  let_next_launch_begin();
  wait_for_last_launch();
  const int share = static_cast<int>(blockIdx.x) / p.division.group;
  const int rank = static_cast<int>(blockIdx.x) % p.division.group;
  // Two warpgroups of values first: merging counts from thread 0.
  const int role = static_cast<int>(threadIdx.x) / MlaFp8Tile::kGroupThreads;
  if (role < 2) {
    take_registers<MlaFp8Tile::kValueRegisters>();
    mla_fp8_values<kCopiedKeys>(tile, p, role, share, rank);
    MlaTile merging;  // its keys are ours
    merging.memory = tile.memory + MlaFp8Tile::kKeys - MlaTile::kKeys;
    merging.address = tile.address + MlaFp8Tile::kKeys - MlaTile::kKeys;
    MlaPieces pieces(p, share);
    mla_merge<MlaFloatParts>(merging, p, pieces, share, rank);
  } else if (role == 2) {
    give_registers<MlaFp8Tile::kScoreRegisters>();
    mla_fp8_score<kCopiedKeys>(tile, p, share, rank);
  } else {
    give_registers<MlaFp8Tile::kCopyRegisters>();
    const int warp = static_cast<int>(threadIdx.x) % MlaFp8Tile::kGroupThreads / kWarp;
    if (warp == 0) mla_fp8_copy<kCopiedKeys>(tile, p, &codes, &rope, share, rank);
    if (warp == 1) mla_fp8_scale<kCopiedKeys>(tile, p, share, rank);
  }
#endif
}

}  // namespace latentd::cuda
