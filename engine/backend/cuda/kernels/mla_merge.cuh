// Merging the pieces of cut units: each of a unit's CTAs merges a part of its rows.
#pragma once

#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/mla_tile.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

// Items [first, last) of a unit's rows, four an each row of 128 columns.
struct MlaMergeSlice {
  static constexpr int kItems = kMlaLatent / 128;  // of a row
  static constexpr int kBatch = 8;                 // pieces that a warp reads at once

  const MlaAttentionParams& p;
  const MlaPiece& piece;
  const MlaRows& rows;
  int rank;
  int first;
  int last;
  float4* parts;  // [value threads], shared memory

  __device__ std::size_t partial_row(int i, int r) const {
    return (static_cast<std::size_t>(mla_slot(piece, p.division, i)) * p.division.group + rank) *
               kMlaTileRows +
           r;
  }
};

// What a row's pieces weigh in its result, spread over a warp: 32 pieces at a time.
struct MlaFactors {
  __device__ MlaFactors(const MlaMergeSlice& s, int row) : slice(s), r(row) {
    highest = -INFINITY;
    sum = 0.0F;
    for (int first = 0; first < s.piece.count; first += kWarp) {
      const float2 run = load(first);
      const float above = fmaxf(highest, warp_reduce(run.x, Max{}));
      sum = sum * exp2_fast(highest - above) + warp_reduce(exp2_fast(run.x - above) * run.y, Sum{});
      highest = above;
    }
    select(0);
  }
  // The lane's piece first + lane; past the last one a piece that weighs nothing.
  __device__ float2 load(int first) const {
    const int i = first + static_cast<int>(threadIdx.x) % kWarp;
    return i < slice.piece.count ? __ldcg(&slice.p.partials.runs[slice.partial_row(i, r)])
                                 : float2{-INFINITY, 0.0F};
  }
  __device__ void select(int first) {
    selected = first;
    own = exp2_fast(load(first).x - highest) / sum;
  }
  // All lanes call.
  __device__ float of(int i) {
    if (i / kWarp * kWarp != selected) select(i / kWarp * kWarp);
    return __shfl_sync(kAllLanes, own, i % kWarp);
  }

  const MlaMergeSlice& slice;
  int r;
  float highest;
  float sum;
  float own;
  int selected;
};

// A lane's 4 columns of an item, over pieces [begin, end) in their order.
__device__ inline float4 mla_merge_item(const MlaMergeSlice& s, int item, int begin, int end) {
  const int r = item / MlaMergeSlice::kItems;
  const int column = item % MlaMergeSlice::kItems * 128 + static_cast<int>(threadIdx.x) % kWarp * 4;
  float4 part[MlaMergeSlice::kBatch];
  const auto load = [&](int first) {
#pragma unroll
    for (int j = 0; j < MlaMergeSlice::kBatch; ++j) {
      if (first + j >= end) break;
      part[j] = __ldcg(reinterpret_cast<const float4*>(
          s.p.partials.sums + s.partial_row(first + j, r) * kMlaLatent + column));
    }
  };
  load(begin);  // on its way while the factors are found
  MlaFactors factors(s, r);
  float4 total{0.0F, 0.0F, 0.0F, 0.0F};
  for (int i = begin; i < end; i += MlaMergeSlice::kBatch) {
    if (i > begin) load(i);
#pragma unroll
    for (int j = 0; j < MlaMergeSlice::kBatch; ++j) {
      if (i + j >= end) break;
      const float factor = factors.of(i + j);
      total.x = fmaf(factor, part[j].x, total.x);
      total.y = fmaf(factor, part[j].y, total.y);
      total.z = fmaf(factor, part[j].z, total.z);
      total.w = fmaf(factor, part[j].w, total.w);
    }
  }
  return total;
}

__device__ inline void mla_merge_store(const MlaMergeSlice& s, int item, const float4& value) {
  const int column = item % MlaMergeSlice::kItems * 128 + static_cast<int>(threadIdx.x) % kWarp * 4;
  const __nv_bfloat162 pair[2] = {__floats2bfloat162_rn(value.x, value.y),
                                  __floats2bfloat162_rn(value.z, value.w)};
  auto* out = static_cast<__nv_bfloat16*>(s.p.attention.out) +
              static_cast<std::size_t>(s.rows.row + item / MlaMergeSlice::kItems) * kMlaLatent +
              column;
  *reinterpret_cast<uint2*>(out) = *reinterpret_cast<const uint2*>(pair);
}

// Few items: several warps share one, each a run of its pieces.
__device__ inline void mla_merge_slice(const MlaMergeSlice& s) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp % MlaTile::kValueWarps;
  const int items = s.last - s.first;
  const int team = items == 1 ? 8 : items == 2 ? 4 : items <= 4 ? 2 : 1;
  if (team == 1) {
    for (int i = s.first + warp; i < s.last; i += MlaTile::kValueWarps) {
      mla_merge_store(s, i, mla_merge_item(s, i, 0, s.piece.count));
    }
    return;
  }
  const int item = s.first + warp / team;
  const int member = warp % team;
  const int self = static_cast<int>(threadIdx.x) % MlaTile::kValueThreads;
  const bool busy = item < s.last;
  if (busy) {
    s.parts[self] =
        mla_merge_item(s, item, s.piece.count * member / team, s.piece.count * (member + 1) / team);
  }
  mla_value_barrier();
  if (!busy || member != 0) return;
  float4 total = s.parts[self];
  for (int i = 1; i < team; ++i) {
    const float4 part = s.parts[self + i * kWarp];
    total.x += part.x;
    total.y += part.y;
    total.z += part.z;
    total.w += part.w;
  }
  mla_merge_store(s, item, total);
}

// The warpgroups of values: for each piece of a cut unit, its share of the merging. The last to
// leave a unit clears its counter for the next launch.
__device__ inline void mla_merge(const MlaTile& tile, const MlaAttentionParams& p, int share,
                                 int rank) {
  const bool leader = threadIdx.x % MlaTile::kValueThreads == 0;
  for (MlaPieces pieces(p, share); pieces.more(); pieces.next()) {
    const MlaPiece& piece = pieces.piece;
    const MlaRows rows(piece, p.division, rank);
    if (rows.count <= 0 || piece.count == 1) continue;
    std::uint32_t* counter = mla_counter(p, piece, rank);
    const auto count = static_cast<std::uint32_t>(piece.count);
    if (leader) {
      std::uint32_t arrived = 0;
      do {
        asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
                     : "=r"(arrived)
                     : "l"(counter)
                     : "memory");
      } while (arrived < count);
    }
    mla_value_barrier();
    const int items = rows.count * MlaMergeSlice::kItems;
    // All keys are consumed: the stages are free.
    mla_merge_slice({p, piece, rows, rank, items * piece.index / piece.count,
                     items * (piece.index + 1) / piece.count,
                     reinterpret_cast<float4*>(tile.memory + MlaTile::kKeys)});
    mla_value_barrier();
    if (leader && atomicAdd(counter, 1U) == 2 * count - 1) *counter = 0;
  }
}

}  // namespace latentd::cuda
