// Merging partial results over an fp8 cache: as in mla_merge.cuh, but of units of few pieces by
// other code, of which there is little. A launch runs it once, and it is fetched before it is
// executed.
#pragma once

#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/mla_fp8_parts.cuh"
#include "engine/backend/cuda/kernels/mla_merge.cuh"
#include "engine/backend/cuda/kernels/mla_tile.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

// 256 columns of a vector of a unit of at most kMlaFp8FewPieces pieces, by a warp.
struct MlaFp8MergeItem {
  static constexpr int kOfVector = kMlaLatent / MlaFp8Parts::kColumns;
  static constexpr int kMostParts = 2 * kMlaFp8FewPieces;
  static constexpr int kBatch = 8;

  // What is read first is on its way afterwards.
  __device__ void load(const MlaPartials& partials, const MlaUnitSlice& s, int parts_of_piece,
                       int item, int lane) {
    sources = s.sources(item / kOfVector);
    two = parts_of_piece == 2;
    count = sources.count * parts_of_piece;
    column = item % kOfVector * MlaFp8Parts::kColumns;
    run = {-INFINITY, 0.0F};
    scale = 0.0F;
    if (lane < count) {
      run = __ldcg(&partials.runs[row(lane)]);
      scale = MlaFp8Parts::inverse_scale(partials, row(lane), column);
    }
    load_words(partials, 0, lane);
  }
  // The sum of all parts in their order.
  __device__ void add(const MlaPartials& partials, int lane, float (&total)[MlaFp8Parts::kValues]) {
    float highest = run.x;
#pragma unroll
    for (int bit = kMostParts / 2; bit > 0; bit /= 2) {
      highest = fmaxf(highest, __shfl_xor_sync(kAllLanes, highest, bit));
    }
    const float weight = exp2_fast(run.x - highest);
    float sum = weight * run.y;
#pragma unroll
    for (int bit = kMostParts / 2; bit > 0; bit /= 2) {
      sum += __shfl_xor_sync(kAllLanes, sum, bit);
    }
    const float factor = run.y == 0.0F ? 0.0F : weight * scale * (1.0F / sum);
#pragma unroll
    for (float& value : total) value = 0.0F;
#pragma unroll 1
    for (int first = 0; first < count; first += kBatch) {
      if (first > 0) load_words(partials, first, lane);
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        const float own = __shfl_sync(kAllLanes, factor, first + j);
        // A part that weighs nothing may have left nothing.
        if (own != 0.0F) MlaFp8Parts::add(total, words[j], own);
      }
    }
  }

  __device__ int row(int part) const {
    return two ? sources.row(part / 2) + part % 2 * kMlaFp8PartRows : sources.row(part);
  }
  __device__ void load_words(const MlaPartials& partials, int first, int lane) {
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      if (first + j >= count) continue;
      words[j] = __ldcg(static_cast<const uint4*>(MlaFp8Parts::row(partials, row(first + j))) +
                        column / MlaFp8Parts::kValues + lane);
    }
  }

  MlaUnitSlice::Sources sources;
  bool two;  // parts of a piece
  int count;
  int column;
  float2 run;   // of the lane's part
  float scale;  // of its sums
  uint4 words[kBatch];
};

// The CTA's part of a unit of few pieces; what a warp reads next is on its way meanwhile.
__device__ inline void mla_fp8_merge_few(const MlaUnitSlice& s, int parts_of_piece) {
  using Item = MlaFp8MergeItem;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const MlaMergePart part(s, Item::kOfVector);
  int i = part.first + static_cast<int>(threadIdx.x) / kWarp % MlaTile::kValueWarps;
  if (i >= part.last) return;
  Item next;
  next.load(s.p.partials, s, parts_of_piece, i, lane);
#pragma unroll 1
  for (; i < part.last; i += MlaTile::kValueWarps) {
    Item item = next;
    if (i + MlaTile::kValueWarps < part.last) {
      next.load(s.p.partials, s, parts_of_piece, i + MlaTile::kValueWarps, lane);
    }
    float total[MlaFp8Parts::kValues];
    item.add(s.p.partials, lane, total);
    MlaFp8Parts::store(static_cast<__nv_bfloat16*>(s.p.attention.out) +
                           static_cast<std::size_t>(s.vector(i / Item::kOfVector)) * kMlaLatent +
                           item.column,
                       total, lane);
  }
}

// Says that a worker's part is complete, when all of its threads have met: what they wrote is seen
// by whoever waits.
__device__ inline void mla_fp8_count(std::uint32_t* counter) {
  asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
}

// Both workers, after their last piece, as mla_merge.
template <bool kWide>
__device__ inline void mla_fp8_merge(const MlaTile& tile, const MlaAttentionParams& p,
                                     MlaPieces& pieces, int share, int rank) {
  const bool leader = threadIdx.x % MlaTile::kValueThreads == 0;
  const MlaMergeMemory memory(tile);
  std::uint32_t* const before = p.partials.launches + blockIdx.x;
  const std::uint32_t launches = leader ? *before + 1 : 0;
  for (pieces.begin_again(p, share); pieces.more(); pieces.next()) {
    const MlaPiece& piece = pieces.piece;
    const MlaRows rows(piece, p.division, rank);
    if (rows.count <= 0 || piece.count == 1) continue;
    const int of_piece = mla_fp8_leaves_two<kWide>(piece.count, rows.count) ? 2 : 1;
    mla_wait(mla_counter(p, piece, rank),
             static_cast<std::uint32_t>(piece.count * of_piece) * launches, leader);
    const MlaUnitSlice slice{p, piece, rows, rank};
    if (piece.count <= kMlaFp8FewPieces) {
      mla_fp8_merge_few(slice, of_piece);
    } else {
      mla_merge_slice<MlaFp8Parts>(slice, memory);
    }
    mla_value_barrier();
  }
  if (leader) *before = launches;
}

}  // namespace latentd::cuda
