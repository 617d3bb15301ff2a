// Merging partial results: those of cut units by each unit's CTAs, a part of its rows each, and
// those of rows that share prefixes by all CTAs.
#pragma once

#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/block.cuh"
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
    const int rows_of_slot = p.division.group * kMlaTileRows;
    const auto row = [&](int index) {
      return mla_slot(p.division, piece.first_slot, index) * rows_of_slot + rank * kMlaTileRows + i;
    };
    return {row(0), row(1), row(2) - row(1), piece.count};
  }

  const MlaAttentionParams& p;
  const MlaPiece& piece;
  const MlaRows& rows;
  int rank;
};

// The query vectors of all rows that share prefixes; all CTAs merge a part each.
struct MlaChainSlice {
  struct Sources {
    __device__ int row(int i) const {
      int link_first = first[0];
      int index = i;
#pragma unroll
      for (int link = 1; link < kMlaMostLinks; ++link) {
        if (i < begin[link]) continue;
        link_first = first[link];
        index = i - begin[link];
      }
      return mla_source_row(link_first, index, d);
    }
    const MlaDivision& d;
    int first[kMlaMostLinks];
    int begin[kMlaMostLinks];  // pieces of the links before
    int count;
  };
  __device__ int num_vectors() const { return num_chains * p.division.heads; }
  __device__ int part() const { return static_cast<int>(blockIdx.x); }
  __device__ int num_parts() const { return static_cast<int>(gridDim.x); }
  __device__ int vector(int i) const {
    return p.chains[i / p.division.heads].token * p.division.heads + i % p.division.heads;
  }
  __device__ Sources sources(int i) const {
    const MlaChain chain = p.chains[i / p.division.heads];
    const int vector = chain.token * p.division.heads + i % p.division.heads;
    MlaSource links[kMlaMostLinks];
#pragma unroll
    for (int link = 0; link < kMlaMostLinks; ++link) {
      if (link < chain.count) {
        links[link] = mla_source(chain.links[link], p.parts, vector, p.division);
      }
    }
    Sources result{p.division, {}, {}, 0};
#pragma unroll
    for (int link = 0; link < kMlaMostLinks; ++link) {
      result.first[link] = links[link].first;
      result.begin[link] = result.count;
      result.count += links[link].count;
    }
    return result;
  }

  const MlaAttentionParams& p;
  int num_chains;
};

// Shared memory of merging.
struct MlaMergeMemory {
  // All keys are consumed: the stages are free.
  __device__ explicit MlaMergeMemory(const MlaTile& tile)
      : parts(reinterpret_cast<float4*>(tile.memory + MlaTile::kKeys)),
        factors(reinterpret_cast<float*>(parts + MlaTile::kValueThreads)) {}
  float4* parts;   // [value threads]
  float* factors;  // [value warps, kMlaMostPieces]
};

// What a vector's pieces weigh in its result: lane l finds out for pieces l, 32 + l, ...
struct MlaFactors {
  static constexpr int kHeld = kMlaMostPieces / kWarp;

  // All loads are on their way before the first is used.
  template <typename Sources>
  __device__ void load(const MlaPartials& partials, const Sources& sources) {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int piece = i * kWarp + static_cast<int>(threadIdx.x) % kWarp;
      runs[i] = piece < sources.count ? __ldcg(&partials.runs[sources.row(piece)])
                                      : float2{-INFINITY, 0.0F};
    }
  }
  // Into factors[kMlaMostPieces], shared memory of the warp.
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

// A warp's part of merging: item i is kWidth * 128 columns of a vector, of which a lane has 4 in
// each 128.
template <int kWidth>
struct MlaMergeItem {
  static constexpr int kOfVector = kMlaLatent / 128 / kWidth;
  // Pieces that a warp reads at once: few, since a launch runs this code once and first fetches it.
  static constexpr int kBatch = kWidth == 1 ? 8 : 4;

  __device__ explicit MlaMergeItem(int i)
      : vector(i / kOfVector),
        column(i % kOfVector * kWidth * 128 + static_cast<int>(threadIdx.x) % kWarp * 4) {}

  // The sum of pieces [begin, end) in their order.
  template <typename Sources>
  __device__ void add(const MlaPartials& partials, const Sources& sources, int begin, int end,
                      float* factors) {
    float4 part[kBatch][kWidth];
    const auto load = [&](int first) {
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        if (first + j >= end) continue;
        const float* row =
            partials.sums + static_cast<std::size_t>(sources.row(first + j)) * kMlaLatent + column;
#pragma unroll
        for (int w = 0; w < kWidth; ++w) {
          part[j][w] = __ldcg(reinterpret_cast<const float4*>(row + w * 128));
        }
      }
    };
    MlaFactors weights;
    weights.load(partials, sources);
    load(begin);  // on its way while the factors are found
    weights.weigh(factors);
#pragma unroll
    for (int w = 0; w < kWidth; ++w) total[w] = {0.0F, 0.0F, 0.0F, 0.0F};
    for (int i = begin; i < end; i += kBatch) {
      if (i > begin) load(i);
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        if (i + j >= end) continue;
        const float factor = factors[i + j];
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

  // As bf16 to vector `to` of all.
  __device__ void store(const MlaAttentionParams& p, int to) const {
    auto* out = static_cast<__nv_bfloat16*>(p.attention.out) +
                static_cast<std::size_t>(to) * kMlaLatent + column;
#pragma unroll
    for (int w = 0; w < kWidth; ++w) {
      const __nv_bfloat162 pair[2] = {__floats2bfloat162_rn(total[w].x, total[w].y),
                                      __floats2bfloat162_rn(total[w].z, total[w].w)};
      *reinterpret_cast<uint2*>(out + w * 128) = *reinterpret_cast<const uint2*>(pair);
    }
  }

  int vector;  // of the slice
  int column;
  float4 total[kWidth];
};

// Items [first, last) of a slice are a CTA's.
template <int kWidth, typename Slice>
struct MlaMergePart {
  static constexpr int kOfVector = MlaMergeItem<kWidth>::kOfVector;
  __device__ explicit MlaMergePart(const Slice& s)
      : first(s.num_vectors() * kOfVector * s.part() / s.num_parts()),
        last(s.num_vectors() * kOfVector * (s.part() + 1) / s.num_parts()) {}
  int first;
  int last;
};

// A warp an item.
template <int kWidth, typename Slice>
__device__ void mla_merge_wide(const Slice& s, const MlaMergeMemory& memory) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp % MlaTile::kValueWarps;
  const MlaMergePart<kWidth, Slice> part(s);
  for (int i = part.first + warp; i < part.last; i += MlaTile::kValueWarps) {
    MlaMergeItem<kWidth> item(i);
    const auto sources = s.sources(item.vector);
    item.add(s.p.partials, sources, 0, sources.count, memory.factors + warp * kMlaMostPieces);
    item.store(s.p, s.vector(item.vector));
  }
}

// At most four items: several warps share one, each a run of its pieces.
template <typename Slice>
__device__ void mla_merge_narrow(const Slice& s, const MlaMergeMemory& memory) {
  const int self = static_cast<int>(threadIdx.x) % MlaTile::kValueThreads;
  const MlaMergePart<1, Slice> part(s);
  const int items = part.last - part.first;
  const int team = items <= 1 ? 8 : items == 2 ? 4 : 2;
  const int member = self / kWarp % team;
  const int i = part.first + self / kWarp / team;
  const bool busy = i < part.last;
  MlaMergeItem<1> item(i);
  if (busy) {
    const auto sources = s.sources(item.vector);
    item.add(s.p.partials, sources, sources.count * member / team,
             sources.count * (member + 1) / team, memory.factors + self / kWarp * kMlaMostPieces);
    memory.parts[self] = item.total[0];
  }
  mla_value_barrier();
  if (!busy || member != 0) return;
  for (int other = 1; other < team; ++other) {
    const float4 added = memory.parts[self + other * kWarp];
    item.total[0].x += added.x;
    item.total[0].y += added.y;
    item.total[0].z += added.z;
    item.total[0].w += added.w;
  }
  item.store(s.p, s.vector(item.vector));
}

template <typename Slice>
__device__ void mla_merge_slice(const Slice& s, const MlaMergeMemory& memory) {
  const int vectors = s.num_vectors() / s.num_parts();
  if (vectors >= MlaTile::kValueWarps) {
    mla_merge_wide<4>(s, memory);
  } else if (mla_divide_up(s.num_vectors() * MlaMergeItem<1>::kOfVector, s.num_parts()) > 4) {
    mla_merge_wide<1>(s, memory);
  } else {
    mla_merge_narrow(s, memory);
  }
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
__device__ inline void mla_merge(const MlaTile& tile, const MlaAttentionParams& p,
                                 MlaPieces& pieces, int share, int rank) {
  const bool leader = threadIdx.x % MlaTile::kValueThreads == 0;
  const MlaMergeMemory memory(tile);
  for (pieces.begin_again(p, share); pieces.more(); pieces.next()) {
    const MlaPiece& piece = pieces.piece;
    const MlaRows rows(piece, p.division, rank);
    if (rows.count <= 0 || piece.count == 1 || piece.chain >= 0) continue;
    std::uint32_t* counter = mla_counter(p, piece, rank);
    const auto count = static_cast<std::uint32_t>(piece.count);
    mla_wait(counter, count, leader);
    mla_merge_slice(MlaUnitSlice{p, piece, rows, rank}, memory);
    mla_value_barrier();
    if (leader && atomicAdd(counter, 1U) == 2 * count - 1) *counter = 0;
  }
}

__device__ inline int mla_num_chains(const MlaAttentionParams& p) {
  return p.num_chains == nullptr ? 0 : *p.num_chains;
}

// The warpgroups of values, when all pieces of the launch are complete or will be without them: the
// CTA's part of the rows that share prefixes. Shares end together, so one counter for all of them
// costs no more than one a row.
__device__ inline void mla_merge_chains(const MlaTile& tile, const MlaAttentionParams& p,
                                        int num_chains) {
  const bool leader = threadIdx.x % MlaTile::kValueThreads == 0;
  mla_wait(p.partials.all_arrived, gridDim.x, leader);
  mla_merge_slice(MlaChainSlice{p, num_chains}, MlaMergeMemory(tile));
  if (leader && atomicAdd(p.partials.all_arrived, 1U) == 2 * gridDim.x - 1) {
    *p.partials.all_arrived = 0;
  }
}

}  // namespace latentd::cuda
