// Merging partial results of cut units: by each unit's CTAs, a part of its rows each.
#pragma once

#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/mla_parts.cuh"
#include "engine/backend/cuda/kernels/mla_tile.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

// The query vectors of a unit's row tile; the CTAs of all its pieces merge a part each.
struct MlaUnitSlice {
  // Where the pieces of a vector lie: row(i) of partial results, in the order of the keys.
  struct Sources {
    __device__ int row(int i) const { return i == 0 ? first : second + (i - 1) * step; }
    int first;
    int second;
    int step;
    int count;
  };
  __device__ int num_vectors() const { return rows.count; }
  __device__ int part() const { return piece.index; }
  __device__ int num_parts() const { return piece.count; }
  __device__ int vector(int i) const { return rows.row + i; }
  __device__ Sources sources(int i) const {
    const auto row = [&](int index) { return mla_partial_row(piece, p.division, index, rank) + i; };
    return {row(0), row(1), row(2) - row(1), piece.count};
  }

  const MlaAttentionParams& p;
  const MlaPiece& piece;
  const MlaRows& rows;
  int rank;
};

// Shared memory of merging.
struct MlaMergeMemory {
  // All keys are consumed: the stages are free.
  __device__ explicit MlaMergeMemory(const MlaTile& tile)
      : parts(reinterpret_cast<float*>(tile.memory + MlaTile::kKeys)),
        factors(parts + 8 * MlaTile::kValueThreads) {}
  float* parts;    // [8, value threads]
  float* factors;  // [value warps, kMlaMostShares]
};

// What a vector's pieces weigh in columns of its result: lane l finds out for pieces l, 32 + l, ...
struct MlaFactors {
  static constexpr int kHeld = kMlaMostShares / kWarp;

  // All loads are on their way before the first is used.
  __device__ void load(const MlaPartials& partials, const MlaUnitSlice::Sources& sources,
                       int column) {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int piece = i * kWarp + static_cast<int>(threadIdx.x) % kWarp;
      runs[i] = {-INFINITY, 0.0F};
      scales[i] = 0.0F;
      if (piece >= sources.count) continue;
      runs[i] = __ldcg(&partials.runs[sources.row(piece)]);
      scales[i] = MlaHalfParts::inverse_scale(partials, sources.row(piece), column);
    }
  }
  // Into factors[kMlaMostShares], shared memory of the warp. Pieces without keys weigh 0.
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
      factors[i * kWarp + static_cast<int>(threadIdx.x) % kWarp] =
          runs[i].y == 0.0F ? 0.0F : runs[i].x * scales[i] * inverse;
    }
    __syncwarp();
  }

  float2 runs[kHeld];
  float scales[kHeld];
};

// A warp's part of merging: item i is MlaHalfParts::kColumns columns of a vector.
struct MlaMergeItem {
  using Parts = MlaHalfParts;
  static constexpr int kOfVector = kMlaLatent / Parts::kColumns;
  static constexpr int kBatch = 16;  // pieces that a warp reads at once

  __device__ explicit MlaMergeItem(int i)
      : vector(i / kOfVector),
        column(i % kOfVector * Parts::kColumns),
        lane(static_cast<int>(threadIdx.x) % kWarp) {}

  // The sum of pieces [begin, end) in their order.
  __device__ void add(const MlaPartials& partials, const MlaUnitSlice::Sources& sources, int begin,
                      int end, float* factors) {
    uint4 part[kBatch];
    const auto load = [&](int first) {
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        if (first + j >= end) continue;
        part[j] = __ldcg(static_cast<const uint4*>(Parts::row(partials, sources.row(first + j))) +
                         column / Parts::kValues + lane);
      }
    };
    MlaFactors weights;
    weights.load(partials, sources, column);
    load(begin);  // on its way while the factors are found
    weights.weigh(factors);
#pragma unroll
    for (float& value : total) value = 0.0F;
    for (int i = begin; i < end; i += kBatch) {
      if (i > begin) load(i);
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        if (i + j >= end) continue;
        const float factor = factors[i + j];
        // A piece that weighs nothing may have left nothing.
        if (factor != 0.0F) Parts::add(total, part[j], factor);
      }
    }
  }

  // As bf16 to vector `to` of all.
  __device__ void store(const MlaAttentionParams& p, int to) const {
    Parts::store(static_cast<__nv_bfloat16*>(p.attention.out) +
                     static_cast<std::size_t>(to) * kMlaLatent + column,
                 total, lane);
  }

  int vector;  // of the slice
  int column;
  int lane;
  float total[Parts::kValues];
};

// Items [first, last) of a slice are a CTA's.
struct MlaMergePart {
  __device__ MlaMergePart(const MlaUnitSlice& s, int of_vector)
      : first(s.num_vectors() * of_vector * s.part() / s.num_parts()),
        last(s.num_vectors() * of_vector * (s.part() + 1) / s.num_parts()) {}
  int first;
  int last;
};

// A warp an item.
__device__ inline void mla_merge_wide(const MlaUnitSlice& s, const MlaMergeMemory& memory) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp % MlaTile::kValueWarps;
  const MlaMergePart part(s, MlaMergeItem::kOfVector);
  for (int i = part.first + warp; i < part.last; i += MlaTile::kValueWarps) {
    MlaMergeItem item(i);
    const auto sources = s.sources(item.vector);
    item.add(s.p.partials, sources, 0, sources.count, memory.factors + warp * kMlaMostShares);
    item.store(s.p, s.vector(item.vector));
  }
}

// At most four items: several warps share one, each a run of its pieces.
__device__ inline void mla_merge_narrow(const MlaUnitSlice& s, const MlaMergeMemory& memory) {
  const int self = static_cast<int>(threadIdx.x) % MlaTile::kValueThreads;
  const MlaMergePart part(s, MlaMergeItem::kOfVector);
  const int items = part.last - part.first;
  const int team = items <= 1 ? 8 : items == 2 ? 4 : 2;
  const int member = self / kWarp % team;
  const int i = part.first + self / kWarp / team;
  const bool busy = i < part.last;
  MlaMergeItem item(i);
  if (busy) {
    const auto sources = s.sources(item.vector);
    item.add(s.p.partials, sources, sources.count * member / team,
             sources.count * (member + 1) / team, memory.factors + self / kWarp * kMlaMostShares);
#pragma unroll
    for (int v = 0; v < MlaHalfParts::kValues; ++v) {
      memory.parts[v * MlaTile::kValueThreads + self] = item.total[v];
    }
  }
  mla_value_barrier();
  if (!busy || member != 0) return;
  for (int other = 1; other < team; ++other) {
#pragma unroll
    for (int v = 0; v < MlaHalfParts::kValues; ++v) {
      item.total[v] += memory.parts[v * MlaTile::kValueThreads + self + other * kWarp];
    }
  }
  item.store(s.p, s.vector(item.vector));
}

__device__ inline void mla_merge_slice(const MlaUnitSlice& s, const MlaMergeMemory& memory) {
  if (mla_divide_up(s.num_vectors() * MlaMergeItem::kOfVector, s.num_parts()) > 4) {
    mla_merge_wide(s, memory);
  } else {
    mla_merge_narrow(s, memory);
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

// The warpgroups of values: for each piece of a cut unit, its share of the merging. Counters go on
// from launch to launch of a plan.
__device__ inline void mla_merge(const MlaTile& tile, const MlaAttentionParams& p,
                                 MlaPieces& pieces, int share, int rank) {
  const bool leader = threadIdx.x % MlaTile::kValueThreads == 0;
  const MlaMergeMemory memory(tile);
  std::uint32_t* const before = p.partials.launches + blockIdx.x;
  const std::uint32_t launches = leader ? *before + 1 : 0;
  for (pieces.begin_again(p, share); pieces.more(); pieces.next()) {
    const MlaPiece& piece = pieces.piece;
    const MlaRows rows(piece, p.division, rank);
    if (rows.count <= 0 || piece.count == 1) continue;
    mla_wait(mla_counter(p, piece, rank), static_cast<std::uint32_t>(piece.count) * launches,
             leader);
    mla_merge_slice(MlaUnitSlice{p, piece, rows, rank}, memory);
    mla_value_barrier();
  }
  if (leader) *before = launches;
}

}  // namespace latentd::cuda
