// Merging partial results over an fp8 cache: by each unit's CTAs, a part of its rows each, as in
// mla_merge.cuh; but nothing is counted, since parts say themselves that they are there, and there
// is little code. A launch runs it once, and it is fetched before it is executed.
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

// Sums over some parts of 256 columns of a vector, 8 a lane, in units of their highest reference.
struct MlaFp8Merged {
  static constexpr int kBatch = 4;  // parts that are read at once
  static constexpr int kValues = MlaFp8Parts::kValues;

  // Parts [begin, end), in their order.
  __device__ void add(const MlaFp8Partials& partials, const MlaUnitSlice::Sources& sources,
                      int half, int begin, int end, int lane) {
#pragma unroll 1
    for (int first = begin; first < end; first += kBatch) {
      uint4* words_at[kBatch];
      uint4* runs_at[kBatch];
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        const auto row = static_cast<std::size_t>(sources.row(min(first + j, end - 1)));
        words_at[j] = MlaFp8Parts::words(partials, row, half) + lane;
        runs_at[j] = MlaFp8Parts::run(partials, row, half);
      }
      uint4 words[kBatch];
      uint4 runs[kBatch];
      bool lack = true;
#pragma unroll 1
      while (lack) {
        lack = false;
#pragma unroll
        for (int j = 0; j < kBatch; ++j) {
          words[j] = mla_fp8_look(words_at[j]);
          runs[j] = mla_fp8_look(runs_at[j]);
        }
#pragma unroll
        for (int j = 0; j < kBatch; ++j) lack = lack || words[j].x == 0 || runs[j].x == 0;
      }
      float highest = reference;
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        mla_fp8_take_away(words_at[j]);
        if (first + j >= end) runs[j] = {0, __float_as_uint(kMlaFp8Lowest), 0, 0};
        highest = fmaxf(highest, __uint_as_float(runs[j].y));
      }
      shrink(highest);
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        const float weight = exp2_fast(__uint_as_float(runs[j].y) - highest);
        const float its_sum = __uint_as_float(runs[j].z);
        sum += its_sum * weight;
        // A part that weighs nothing may hold anything.
        if (its_sum == 0.0F) continue;
        MlaFp8Parts::add(total, words[j], weight * __uint_as_float(runs[j].x));
      }
    }
  }
  // Counts from a higher reference.
  __device__ void shrink(float highest) {
    const float keep = exp2_fast(reference - highest);
    reference = highest;
    sum *= keep;
#pragma unroll
    for (float& value : total) value *= keep;
  }

  float reference = kMlaFp8Lowest;
  float sum = 0.0F;
  float total[kValues] = {};
};

// What is known of parts [begin, end) of half a vector is needed no more.
__device__ inline void mla_fp8_take_runs(const MlaFp8Partials& partials,
                                         const MlaUnitSlice::Sources& sources, int half, int begin,
                                         int end, int lane) {
#pragma unroll 1
  for (int part = begin + lane; part < end; part += kWarp) {
    mla_fp8_take_away(
        MlaFp8Parts::run(partials, static_cast<std::size_t>(sources.row(part)), half));
  }
}

// A warp's sums over its run of a vector's parts.
struct MlaFp8MergeMemory {
  static constexpr int kThreads = MlaTile::kValueThreads;
  static constexpr int kValues = MlaFp8Parts::kValues;

  // Of the thread itself.
  __device__ void leave(int self, const MlaFp8Merged& merged) const {
#pragma unroll
    for (int v = 0; v < kValues; ++v) floats[v * kThreads + self] = merged.total[v];
    floats[kValues * kThreads + self] = merged.reference;
    floats[(kValues + 1) * kThreads + self] = merged.sum;
  }
  // Joins what `team` warps left, of which the thread's first is that of thread `first`; member m
  // does so for every team-th pair of columns. As bf16 to columns of which the first is at `out`.
  __device__ void join(int first, int team, int member, int lane, __nv_bfloat16* out) const {
    const float* own = floats + first;
    float weights[kMostWarps];
    float highest = kMlaFp8Lowest;
#pragma unroll
    for (int m = 0; m < kMostWarps; ++m) {
      weights[m] = m < team ? own[kValues * kThreads + m * kWarp] : kMlaFp8Lowest;
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
    for (int b = member; b < kValues / 2; b += team) {
      float x = 0.0F;
      float y = 0.0F;
#pragma unroll
      for (int m = 0; m < kMostWarps; ++m) {
        if (m >= team) continue;
        x += weights[m] * own[2 * b * kThreads + m * kWarp];
        y += weights[m] * own[(2 * b + 1) * kThreads + m * kWarp];
      }
      *reinterpret_cast<std::uint32_t*>(out + b * 64 + lane * 2) =
          mla_pair(x * inverse, y * inverse);
    }
  }

  static constexpr int kMostWarps = MlaTile::kValueWarps;
  float* floats;  // [values, reference, sum][threads]
};

// The CTA's part of a unit: a warp 256 columns of a vector, or where those are few several warps,
// each with a run of the parts.
__device__ inline void mla_fp8_merge_slice(const MlaUnitSlice& s, const MlaFp8MergeMemory& memory) {
  constexpr int kHalves = MlaFp8Parts::kHalves;
  const MlaMergePart part(s, kHalves);
  const int items = part.last - part.first;
  const int self = static_cast<int>(threadIdx.x) % MlaTile::kValueThreads;
  const int lane = self % kWarp;
  const int bits = items > 4 ? 0 : items > 2 ? 1 : items == 2 ? 2 : 3;
  const int team = 1 << bits;
  const int member = self / kWarp & (team - 1);
  const MlaFp8Partials& partials = s.p.fp8_partials;
  const int begin = s.piece.count * member >> bits;
  const int end = s.piece.count * (member + 1) >> bits;
#pragma unroll 1
  for (int i = part.first + (self / kWarp >> bits); i < part.last || team > 1;
       i += MlaTile::kValueWarps) {
    const bool busy = i < part.last;
    const int vector = i / kHalves;
    const int half = i % kHalves;
    const MlaUnitSlice::Sources sources = s.sources(vector);
    auto* out = static_cast<__nv_bfloat16*>(s.p.attention.out) +
                static_cast<std::size_t>(s.vector(vector)) * kMlaLatent +
                half * MlaFp8Parts::kColumns;
    MlaFp8Merged merged;
    if (busy) {
      merged.add(partials, sources, half, begin, end, lane);
      __syncwarp();
      mla_fp8_take_runs(partials, sources, half, begin, end, lane);
    }
    if (team > 1) {
      memory.leave(self, merged);
      mla_value_barrier();
      if (busy) memory.join(self - member * kWarp, team, member, lane, out);
      return;
    }
    const float inverse = inverse_fast(merged.sum);
#pragma unroll
    for (float& value : merged.total) value *= inverse;
    MlaFp8Parts::store(out, merged.total, lane);
  }
}

// Both workers, after their last piece. list: of the pieces behind the first of `count`.
__device__ inline void mla_fp8_merge(const MlaFp8Tile& tile, const MlaAttentionParams& p,
                                     const MlaPiece* list, int count, int share, int worker,
                                     int rank) {
#pragma unroll 1
  for (int i = 0; i < count; ++i) {
    if (count > 1) mla_fp8_place_piece(tile, i == 0 ? p.shares[share].first : list[i - 1], worker);
    const MlaPiece& piece = tile.piece(worker);
    const MlaRows rows(piece, p.division, rank);
    if (rows.count <= 0 || piece.count == 1) continue;
    mla_value_barrier();  // nobody reads keys any more, or what lies in their place
    mla_fp8_merge_slice(MlaUnitSlice{p, piece, rows, rank},
                        MlaFp8MergeMemory{tile.at<float>(tile.keys_at)});
  }
}

}  // namespace latentd::cuda
