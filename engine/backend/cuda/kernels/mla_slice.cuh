// What a CTA merges of a cut unit, and how a warp finds its parts.
#pragma once

#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/elements.cuh"
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

  // Of item i, which is 256 columns of a vector: the first.
  __device__ __nv_bfloat16* out(int i) const {
    return static_cast<__nv_bfloat16*>(p.attention.out) +
           static_cast<std::size_t>(vector(0)) * kMlaLatent + i * MlaHalfParts::kColumns;
  }

  const MlaAttentionParams& p;
  const MlaPiece& piece;
  const MlaRows& rows;
  int rank;
};

// Items [first, last) of a slice are a CTA's. Divided as fp32, which is exact for so few: half an
// item more or less is far from an integer.
struct MlaMergePart {
  __device__ MlaMergePart(const MlaUnitSlice& s, int of_vector) {
    const float share = static_cast<float>(s.num_vectors() * of_vector);
    const float inverse = __frcp_rn(static_cast<float>(s.num_parts()));
    const auto cut = [&](int part) {
      return static_cast<int>(fmaf(static_cast<float>(part), share, 0.5F) * inverse);
    };
    first = cut(s.part());
    last = cut(s.part() + 1);
  }
  int first;
  int last;
};

// As bf16 to columns of which the warp's first is at `out`.
template <typename Parts>
__device__ void mla_store_merged(__nv_bfloat16* out, const float (&total)[Parts::kValues],
                                 int lane) {
#pragma unroll
  for (int i = 0; i < Parts::kValues / 2; ++i) {
    *reinterpret_cast<std::uint32_t*>(out + Parts::column(lane, i)) =
        pack_pair(total[2 * i], total[2 * i + 1]);
  }
}

// Below every reference of scores.
constexpr float kMlaLowest = -1e30F;

// The highest of a warp: an instruction for integers, by which numbers are ordered too once the
// lower bits of the negative ones are turned over.
__device__ inline float mla_warp_highest(float value) {
  const auto turned = [](int bits) { return bits ^ (bits >> 31 & 0x7fffffff); };
  return __int_as_float(turned(__reduce_max_sync(kAllLanes, turned(__float_as_int(value)))));
}

// 256 columns of kCount parts, of which a lane has 8 of each, and how the scores of one part a lane
// ran. Parts and runs that do not exist weigh nothing.
template <int kCount>
struct MlaLook {
  static constexpr std::uint32_t kNoReference = 0xff800000U;  // -inf

  template <typename Exists>
  __device__ MlaLook(std::uint32_t launch, bool has_run, const Exists& exists)
      : run{0, kNoReference, 0, has_run ? ~launch : launch} {
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      words[j] = uint4{MlaHalfParts::marked(0, exists(j) ? ~launch : launch), 0, 0, 0};
    }
  }
  // Reads what lacks until nothing does; words_at(j): of part j.
  template <typename Place>
  __device__ void until_there(std::uint32_t launch, const uint4* run_at, const Place& words_at) {
    std::uint32_t lacks = 1;
#pragma unroll 1
    while (lacks != 0) {
      if (run.w != launch) run = mla_look(run_at);
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        if (MlaHalfParts::lacks(words[j], launch)) words[j] = mla_look(words_at(j));
      }
      lacks = 0;
#pragma unroll
      for (int j = 0; j < kCount; ++j) lacks |= words[j].x ^ launch;
      lacks = (lacks & 1U) | (run.w ^ launch);
    }
    __syncwarp();
  }
  __device__ float inverse_scale() const { return __uint_as_float(run.x); }
  __device__ float reference() const { return __uint_as_float(run.y); }
  __device__ float sum() const { return __uint_as_float(run.z); }

  uint4 words[kCount];
  uint4 run;
};

}  // namespace latentd::cuda
