// Merging partial results over an fp8 cache.
#pragma once

#include <cstdint>

#include "engine/backend/cuda/kernels/mla_fp8_parts.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_tile.cuh"
#include "engine/backend/cuda/kernels/mla_merge.cuh"
#include "engine/backend/cuda/kernels/mla_tile.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

// Both workers, after their last piece. list: of the pieces behind the first of `count`.
__device__ inline void mla_fp8_merge(const MlaFp8Tile& tile, const MlaAttentionParams& p,
                                     const MlaPiece* list, int count, int share, int worker,
                                     int rank, std::uint32_t launch) {
  constexpr int kBatch = 4;
  const bool leader = threadIdx.x % MlaTile::kValueThreads == 0;
#pragma unroll 1
  for (int i = 0; i < count; ++i) {
    if (count > 1) mla_fp8_place_piece(tile, i == 0 ? p.shares[share].first : list[i - 1], worker);
    const MlaPiece& piece = tile.piece(worker);
    const MlaRows rows(piece, p.division, rank);
    if (rows.count <= 0 || piece.count == 1) continue;
    if (launch == 0) {
      mla_wait(mla_counter(p, piece, rank), static_cast<std::uint32_t>(piece.count), leader);
    }
    mla_merge_slice<MlaFp8Parts, kBatch, false>(
        MlaUnitSlice{p, piece, rows, rank}, MlaMergeMemory{tile.at<float>(tile.keys_at)}, launch);
  }
  if (leader) p.partials.launches[blockIdx.x] = launch + 1;
}

}  // namespace latentd::cuda
