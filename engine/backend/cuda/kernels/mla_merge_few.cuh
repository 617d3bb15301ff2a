// Merging where units have few pieces and a CTA more vectors than warps: a warp takes several at
// once, since one after the other they would each wait for memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/mla_parts.cuh"
#include "engine/backend/cuda/kernels/mla_slice.cuh"
#include "engine/backend/cuda/kernels/mla_tile.cuh"

namespace latentd::cuda {

constexpr int kMlaFewParts = 8;

// Items first, first + kValueWarps, ... below `last`, each of at most kParts parts. Returns the
// next.
template <int kParts>
__device__ int mla_merge_items(const MlaUnitSlice& s, int first, int last, std::uint32_t launch) {
  constexpr int kHalves = MlaHalfParts::kHalves;
  constexpr int kSlots = kParts < 8 ? 8 : 16;  // parts that are read at once
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const MlaPartials& partials = s.p.partials;
  const MlaUnitSlice::Sources sources = s.sources(0);
  const auto item = [&](int slot) { return first + slot / kParts * MlaTile::kValueWarps; };
  const auto exists = [&](int slot) { return item(slot) < last && slot % kParts < s.piece.count; };
  const auto row = [&](int slot) {
    return static_cast<std::size_t>(sources.row(slot % kParts) + item(slot) / kHalves);
  };
  MlaLook<kSlots> parts(launch, lane < kSlots && exists(lane), exists);
  parts.until_there(launch, MlaHalfParts::run(partials, row(lane), item(lane) % kHalves),
                    [&](int slot) {
                      return MlaHalfParts::words(partials, row(slot), item(slot) % kHalves) + lane;
                    });
  // Over the lanes of an item's parts.
  float highest = parts.reference();
#pragma unroll
  for (int by = 1; by < kParts; by *= 2) {
    highest = fmaxf(highest, __shfl_xor_sync(kAllLanes, highest, by));
  }
  const float weight = exp2_fast(parts.reference() - highest);
  float sum = weight * parts.sum();
#pragma unroll
  for (int by = 1; by < kParts; by *= 2) sum += __shfl_xor_sync(kAllLanes, sum, by);
  const float factor = weight * parts.inverse_scale() * inverse_fast(sum);
#pragma unroll
  for (int slot = 0; slot < kSlots; slot += kParts) {
    float total[MlaHalfParts::kValues] = {};
#pragma unroll
    for (int j = slot; j < slot + kParts; ++j) {
      MlaHalfParts::add(total, parts.words[j], __shfl_sync(kAllLanes, factor, j));
    }
    if (item(slot) >= last) break;
    mla_store_merged<MlaHalfParts>(s.out(item(slot)), total, lane);
  }
  return item(kSlots);
}

__device__ inline void mla_merge_few(const MlaUnitSlice& s, int first, int last,
                                     std::uint32_t launch) {
  const int count = s.piece.count;
#pragma unroll 1
  while (first < last) {
    first = count <= 2   ? mla_merge_items<2>(s, first, last, launch)
            : count <= 4 ? mla_merge_items<4>(s, first, last, launch)
                         : mla_merge_items<kMlaFewParts>(s, first, last, launch);
  }
}

}  // namespace latentd::cuda
