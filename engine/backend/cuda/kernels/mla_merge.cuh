// Merging the pieces of cut units: each of a unit's CTAs merges a part of its rows.
#pragma once

#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/mla_tile.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

// The part of a unit's rows that a piece's CTA merges: items [first, last) of kWidth * 128 columns.
template <int kWidth>
struct MlaMergeSlice {
  static constexpr int kItems = kMlaLatent / 128 / kWidth;  // of a row
  static constexpr int kBatch = 16 / kWidth;                // pieces that a warp reads at once

  const MlaAttentionParams& p;
  const MlaPiece& piece;
  const MlaRows& rows;
  int rank;
  // Shared memory.
  float4* parts;   // [value threads]
  float* factors;  // [value warps, kMlaMostShares]

  __device__ int items() const { return rows.count * kItems; }
  __device__ int first() const { return items() * piece.index / piece.count; }
  __device__ int last() const { return items() * (piece.index + 1) / piece.count; }
  __device__ std::size_t partial_row(int i, int r) const {
    return (static_cast<std::size_t>(mla_slot(piece, p.division, i)) * p.division.group + rank) *
               kMlaTileRows +
           r;
  }
};

// What a row's pieces weigh in its result: lane l finds out for pieces l, 32 + l, ...
struct MlaFactors {
  static constexpr int kHeld = kMlaMostShares / kWarp;

  // All loads are on their way before the first is used.
  template <typename Slice>
  __device__ void load(const Slice& s, int r) {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int piece = i * kWarp + static_cast<int>(threadIdx.x) % kWarp;
      runs[i] = piece < s.piece.count ? __ldcg(&s.p.partials.runs[s.partial_row(piece, r)])
                                      : float2{-INFINITY, 0.0F};
    }
  }
  // Into factors[kMlaMostShares], shared memory of the warp.
  __device__ void weigh(float* factors) {
    float highest = -INFINITY;
#pragma unroll
    for (int i = 0; i < kHeld; ++i) highest = fmaxf(highest, runs[i].x);
    highest = warp_reduce(highest, Max{});
    float sum = 0.0F;
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      runs[i].x = exp2_fast(runs[i].x - highest);
      sum += runs[i].x * runs[i].y;
    }
    const float inverse = 1.0F / warp_reduce(sum, Sum{});
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      factors[i * kWarp + static_cast<int>(threadIdx.x) % kWarp] = runs[i].x * inverse;
    }
    __syncwarp();
  }

  float2 runs[kHeld];
};

// A lane's 4 columns of every 128 of an item, over pieces [begin, end) in their order.
template <int kWidth>
__device__ void mla_merge_item(const MlaMergeSlice<kWidth>& s, int item, int begin, int end,
                               float4 (&total)[kWidth]) {
  using Slice = MlaMergeSlice<kWidth>;
  const int r = item / Slice::kItems;
  const int column =
      item % Slice::kItems * kWidth * 128 + static_cast<int>(threadIdx.x) % kWarp * 4;
  float4 part[Slice::kBatch][kWidth];
  const auto load = [&](int first) {
#pragma unroll
    for (int j = 0; j < Slice::kBatch; ++j) {
      if (first + j >= end) continue;
      const float* row = s.p.partials.sums + s.partial_row(first + j, r) * kMlaLatent + column;
#pragma unroll
      for (int w = 0; w < kWidth; ++w) {
        part[j][w] = __ldcg(reinterpret_cast<const float4*>(row + w * 128));
      }
    }
  };
  MlaFactors factors;
  factors.load(s, r);
  load(begin);  // on its way while the factors are found
  float* weights =
      s.factors + static_cast<int>(threadIdx.x) / kWarp % MlaTile::kValueWarps * kMlaMostShares;
  factors.weigh(weights);
#pragma unroll
  for (int w = 0; w < kWidth; ++w) total[w] = {0.0F, 0.0F, 0.0F, 0.0F};
  for (int i = begin; i < end; i += Slice::kBatch) {
    if (i > begin) load(i);
#pragma unroll
    for (int j = 0; j < Slice::kBatch; ++j) {
      if (i + j >= end) continue;
      const float factor = weights[i + j];
#pragma unroll
      for (int w = 0; w < kWidth; ++w) {
        total[w].x = fmaf(factor, part[j][w].x, total[w].x);
        total[w].y = fmaf(factor, part[j][w].y, total[w].y);
        total[w].z = fmaf(factor, part[j][w].z, total[w].z);
        total[w].w = fmaf(factor, part[j][w].w, total[w].w);
      }
    }
  }
}

template <int kWidth>
__device__ void mla_merge_store(const MlaMergeSlice<kWidth>& s, int item,
                                const float4 (&value)[kWidth]) {
  using Slice = MlaMergeSlice<kWidth>;
  const int column =
      item % Slice::kItems * kWidth * 128 + static_cast<int>(threadIdx.x) % kWarp * 4;
  auto* out = static_cast<__nv_bfloat16*>(s.p.attention.out) +
              static_cast<std::size_t>(s.rows.row + item / Slice::kItems) * kMlaLatent + column;
#pragma unroll
  for (int w = 0; w < kWidth; ++w) {
    const __nv_bfloat162 pair[2] = {__floats2bfloat162_rn(value[w].x, value[w].y),
                                    __floats2bfloat162_rn(value[w].z, value[w].w)};
    *reinterpret_cast<uint2*>(out + w * 128) = *reinterpret_cast<const uint2*>(pair);
  }
}

// A warp an item.
template <int kWidth>
__device__ void mla_merge_wide(const MlaMergeSlice<kWidth>& s) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp % MlaTile::kValueWarps;
  const int last = s.last();
  for (int i = s.first() + warp; i < last; i += MlaTile::kValueWarps) {
    float4 total[kWidth];
    mla_merge_item(s, i, 0, s.piece.count, total);
    mla_merge_store(s, i, total);
  }
}

// At most four items: several warps share one, each a run of its pieces.
__device__ inline void mla_merge_narrow(const MlaMergeSlice<1>& s) {
  const int self = static_cast<int>(threadIdx.x) % MlaTile::kValueThreads;
  const int items = s.last() - s.first();
  const int team = items <= 1 ? 8 : items == 2 ? 4 : 2;
  const int item = s.first() + self / kWarp / team;
  const int member = self / kWarp % team;
  const bool busy = item < s.last();
  float4 total[1];
  if (busy) {
    mla_merge_item(s, item, s.piece.count * member / team, s.piece.count * (member + 1) / team,
                   total);
    s.parts[self] = total[0];
  }
  mla_value_barrier();
  if (!busy || member != 0) return;
  for (int i = 1; i < team; ++i) {
    const float4 part = s.parts[self + i * kWarp];
    total[0].x += part.x;
    total[0].y += part.y;
    total[0].z += part.z;
    total[0].w += part.w;
  }
  mla_merge_store(s, item, total);
}

// Says that the CTA's piece is complete: what all threads wrote before is seen by whoever waits.
__device__ inline void mla_arrive(std::uint32_t* counter, bool leader) {
  mla_value_barrier();
  if (!leader) return;
  __threadfence();
  atomicAdd(counter, 1U);
}

__device__ inline void mla_wait(const std::uint32_t* counter, std::uint32_t count, bool leader) {
  if (leader) {
    std::uint32_t arrived = 0;
    do {
      asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(arrived) : "l"(counter) : "memory");
    } while (arrived < count);
    __threadfence();
  }
  mla_value_barrier();
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
    mla_wait(counter, count, leader);
    // All keys are consumed: the stages are free.
    auto* parts = reinterpret_cast<float4*>(tile.memory + MlaTile::kKeys);
    auto* factors = reinterpret_cast<float*>(parts + MlaTile::kValueThreads);
    if (rows.count / piece.count >= MlaTile::kValueWarps) {
      mla_merge_wide<4>({p, piece, rows, rank, parts, factors});
    } else if (mla_divide_up(rows.count * MlaMergeSlice<1>::kItems, piece.count) > 4) {
      mla_merge_wide<1>({p, piece, rows, rank, parts, factors});
    } else {
      mla_merge_narrow({p, piece, rows, rank, parts, factors});
    }
    mla_value_barrier();
    if (leader && atomicAdd(counter, 1U) == 2 * count - 1) *counter = 0;
  }
}

}  // namespace latentd::cuda
