// Merging partial results of cut units: by each unit's CTAs, a part of its rows each, as soon as
// parts say that they are there.
#pragma once

#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/cuda/kernels/mla_merge_few.cuh"
#include "engine/backend/cuda/kernels/mla_parts.cuh"
#include "engine/backend/cuda/kernels/mla_slice.cuh"
#include "engine/backend/cuda/kernels/mla_tile.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

// Sums over some parts of 256 columns of a vector, 8 a lane, in units of their highest reference.
template <int kBatch>  // parts that are read at once
struct MlaMerged {
  static constexpr int kValues = MlaHalfParts::kValues;

  // Parts [begin, end), in their order.
  __device__ void add(const MlaPartials& partials, const MlaUnitSlice::Sources& sources, int half,
                      int begin, int end, std::uint32_t launch) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll 1
    for (int first = begin; first < end; first += kBatch) {
      const int count = min(end - first, kBatch);
      const auto row = [&](int i) { return static_cast<std::size_t>(sources.row(first + i)); };
      MlaLook<kBatch> parts(launch, lane < count, [&](int j) { return j < count; });
      parts.until_there(launch, MlaHalfParts::run(partials, row(lane), half),
                        [&](int j) { return MlaHalfParts::words(partials, row(j), half) + lane; });
      const float highest = fmaxf(reference, mla_warp_highest(parts.reference()));
      const float keep = exp2_fast(reference - highest);
      const float weight = exp2_fast(parts.reference() - highest);
      reference = highest;
      sum = fmaf(weight, parts.sum(), sum * keep);
      const float factor = weight * parts.inverse_scale();
#pragma unroll
      for (float& value : total) value *= keep;
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        MlaHalfParts::add(total, parts.words[j], __shfl_sync(kAllLanes, factor, j));
      }
    }
    sum = warp_reduce(sum, Sum{});
  }

  float reference = kMlaLowest;
  float sum = 0.0F;
  float total[kValues] = {};
};

// Shared memory of warps that share the parts of a vector, each a run of them.
struct MlaMergeMemory {
  static constexpr int kThreads = MlaTile::kValueThreads;
  static constexpr int kValues = MlaHalfParts::kValues;
  static constexpr int kMostWarps = MlaTile::kValueWarps;

  // Of the thread itself.
  template <typename Merged>
  __device__ void leave(int self, const Merged& merged) const {
#pragma unroll
    for (int v = 0; v < kValues; ++v) floats[v * kThreads + self] = merged.total[v];
    floats[kValues * kThreads + self] = merged.reference;
    floats[(kValues + 1) * kThreads + self] = merged.sum;
  }
  // Joins what `team` warps left, of which the thread's first is that of thread `first`; member m
  // does so for every team-th pair of columns. As bf16 to columns of which the first is at `out`.
  template <typename Parts>
  __device__ void join(int first, int team, int member, int lane, __nv_bfloat16* out) const {
    const float* own = floats + first;
    float weights[kMostWarps];
    float highest = kMlaLowest;
#pragma unroll
    for (int m = 0; m < kMostWarps; ++m) {
      weights[m] = m < team ? own[kValues * kThreads + m * kWarp] : kMlaLowest;
      highest = fmaxf(highest, weights[m]);
    }
    float sum = 0.0F;
#pragma unroll
    for (int m = 0; m < kMostWarps; ++m) {
      weights[m] = exp2_fast(weights[m] - highest);
      if (m < team) sum += weights[m] * own[(kValues + 1) * kThreads + m * kWarp];
    }
    const float inverse = inverse_fast(sum);
#pragma unroll 1
    for (int i = member; i < kValues / 2; i += team) {
      float x = 0.0F;
      float y = 0.0F;
#pragma unroll
      for (int m = 0; m < kMostWarps; ++m) {
        if (m >= team) continue;
        x += weights[m] * own[2 * i * kThreads + m * kWarp];
        y += weights[m] * own[(2 * i + 1) * kThreads + m * kWarp];
      }
      *reinterpret_cast<std::uint32_t*>(out + Parts::column(lane, i)) =
          pack_pair(x * inverse, y * inverse);
    }
  }

  float* floats;  // [values, reference, sum][threads]
};

// The CTA's part of a unit: a warp 256 columns of a vector, or where those are few several warps,
// each with a run of the parts.
template <typename Parts, int kBatch, bool kFew>
__device__ void mla_merge_slice(const MlaUnitSlice& s, const MlaMergeMemory& memory,
                                std::uint32_t launch) {
  constexpr int kHalves = MlaHalfParts::kHalves;
  const MlaMergePart part(s, kHalves);
  const int items = part.last - part.first;
  const int self = static_cast<int>(threadIdx.x) % MlaTile::kValueThreads;
  if (kFew && items > MlaTile::kValueWarps && s.piece.count <= kMlaFewParts) {
    mla_merge_few(s, part.first + self / kWarp, part.last, launch);
    return;
  }
  const int lane = self % kWarp;
  const int bits = items > 4 ? 0 : items > 2 ? 1 : items == 2 ? 2 : 3;
  const int team = 1 << bits;
  const int member = self / kWarp & (team - 1);
  const int begin = s.piece.count * member >> bits;
  const int end = s.piece.count * (member + 1) >> bits;
#pragma unroll 1
  for (int i = part.first + (self / kWarp >> bits); i < part.last || team > 1;
       i += MlaTile::kValueWarps) {
    const bool busy = i < part.last;
    MlaMerged<kBatch> merged;
    if (busy) {
      merged.add(s.p.partials, s.sources(i / kHalves), i % kHalves, begin, end, launch);
    }
    if (team > 1) {
      mla_value_barrier();  // nobody reads keys any more, or what lies in their place
      memory.leave(self, merged);
      mla_value_barrier();
      if (busy) memory.join<Parts>(self - member * kWarp, team, member, lane, s.out(i));
      return;
    }
    const float inverse = inverse_fast(merged.sum);
#pragma unroll
    for (float& value : merged.total) value *= inverse;
    mla_store_merged<Parts>(s.out(i), merged.total, lane);
  }
}

// Says that the CTA's piece is complete: what all threads wrote before is seen by whoever waits.
__device__ inline void mla_arrive(std::uint32_t* counter, bool leader) {
  mla_value_barrier();
  if (!leader) return;
  asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
}

__device__ inline void mla_wait(const std::uint32_t* counter, std::uint32_t count, bool leader) {
  if (leader) {
    std::uint32_t arrived = 0;
    do {
      asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(arrived) : "l"(counter) : "memory");
    } while (arrived < count);
  }
  mla_value_barrier();
}

// The warpgroups of values: for each piece of a cut unit, its share of the merging; `launch` of the
// plan's, from 0. What lies in the memory of parts before a plan's first launch may bear any mark,
// so there pieces are counted.
__device__ inline void mla_merge(const MlaTile& tile, const MlaAttentionParams& p,
                                 MlaPieces& pieces, int share, int rank, std::uint32_t launch) {
  constexpr int kBatch = 8;
  const bool leader = threadIdx.x % MlaTile::kValueThreads == 0;
  const MlaMergeMemory memory{reinterpret_cast<float*>(tile.memory + MlaTile::kKeys)};
  for (pieces.begin_again(p, share); pieces.more(); pieces.next()) {
    const MlaPiece& piece = pieces.piece;
    const MlaRows rows(piece, p.division, rank);
    if (rows.count <= 0 || piece.count == 1) continue;
    if (launch == 0) {
      mla_wait(mla_counter(p, piece, rank), static_cast<std::uint32_t>(piece.count), leader);
    }
    mla_merge_slice<MlaHalfParts, kBatch, true>(MlaUnitSlice{p, piece, rows, rank}, memory, launch);
  }
  if (leader) p.partials.launches[blockIdx.x] = launch + 1;
}

}  // namespace latentd::cuda
