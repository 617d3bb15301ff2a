// How keys come from the cache into the stages of the 512 + 64 attention kernel: groups of 8 keys,
// each nine atoms of [8 keys, 64 columns] in bf16.
//
// Over a bf16 cache one copy brings a group. Over an fp8 cache rope values come to their place, and
// codes and scales into the group itself, whose last atoms of latents they fill: a warp takes them
// from there, and writes what they stand for over all of the group. A code times a power of two is
// a bf16 number, so products are those over the dequantised cache.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/hopper.cuh"
#include "engine/backend/cuda/kernels/mla_tile.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

struct MlaBf16Keys {
  static constexpr bool kWidened = false;
  static constexpr int kThreads = MlaTile::kThreads;
  static constexpr int kCopyRegisters = 32;
  static constexpr int kScoreRegisters = 96;
  static constexpr int kValueRegisters = 192;
  static constexpr int kArrivals = 1;  // at a stage's `full`
  static constexpr int kCopiedBytes = MlaTile::kGroupBytes;

  // A group of keys, from token `token` of a page on, to the kGroup CTAs of the cluster.
  template <int kGroup>
  static __device__ void copy(const CUtensorMap* keys, const CacheView& /*cache*/, std::uint32_t to,
                              std::uint32_t barrier, int token, int page) {
    if constexpr (kGroup == 1) {
      hopper::copy_tensor_4d(to, keys, barrier, 0, token, 0, page);
    } else {
      hopper::multicast_tensor_4d(to, keys, barrier, (1U << kGroup) - 1, 0, token, 0, page);
    }
  }
};

struct MlaFp8Keys {
  static constexpr bool kWidened = true;
  static constexpr int kThreads = MlaTile::kThreads + MlaTile::kGroupThreads;
  static constexpr int kCopyRegisters = 40;
  static constexpr int kScoreRegisters = 80;
  static constexpr int kValueRegisters = 160;
  static constexpr int kArrivals = MlaTile::kStageGroups * hopper::kWarpArrivals;
  static constexpr int kWarps = MlaTile::kWidenWarps;

  // Of a group.
  static constexpr int kScaleBytes = 8 * kMlaLatent / 128 * 4;
  static constexpr int kCodeBytes = 8 * kMlaLatent;
  static constexpr int kRopeBytes = 8 * kMlaRope * 2;
  static constexpr int kCopiedBytes = kCodeBytes + kRopeBytes + kScaleBytes;
  // Where they come to.
  static constexpr int kRope = kMlaLatent / 64 * MlaTile::kAtomBytes;
  static constexpr int kCodes = kRope - kCodeBytes;
  static constexpr int kScales = kCodes - kScaleBytes;

  template <int kGroup>
  static __device__ void copy(const CUtensorMap* rope, const CacheView& cache, std::uint32_t to,
                              std::uint32_t barrier, int token, int page) {
    const char* from =
        static_cast<const char*>(cache.pool) + static_cast<std::size_t>(page) * cache.page_stride;
    const char* codes =
        from + cache.layer_offset + static_cast<std::size_t>(token) * (kCodeBytes / 8);
    const char* scales =
        from + cache.scales_offset + static_cast<std::size_t>(token) * (kScaleBytes / 8);
    if constexpr (kGroup == 1) {
      hopper::copy_bytes(to + kCodes, codes, barrier, kCodeBytes);
      hopper::copy_bytes(to + kScales, scales, barrier, kScaleBytes);
      hopper::copy_tensor_3d(to + kRope, rope, barrier, 0, token, page);
    } else {
      constexpr std::uint16_t kMask = (1U << kGroup) - 1;
      hopper::multicast_bytes(to + kCodes, codes, barrier, kMask, kCodeBytes);
      hopper::multicast_bytes(to + kScales, scales, barrier, kMask, kScaleBytes);
      hopper::multicast_tensor_3d(to + kRope, rope, barrier, kMask, 0, token, page);
    }
  }
};

// A scale as two bf16 numbers.
__device__ inline std::uint32_t mla_pair_of(float x) {
  std::uint32_t d;
  asm("cvt.rn.bf16x2.f32 %0, %1, %1;" : "=r"(d) : "f"(x));
  return d;
}
__device__ inline std::uint32_t mla_multiply_pairs(std::uint32_t a, std::uint32_t b) {
  std::uint32_t d;
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}

// Two codes as bf16 numbers times 2^-120: their bits at the place that they have there, where the
// smallest are subnormal as well. `bytes` makes a half of each code and its sign.
__device__ inline std::uint32_t mla_place_codes(std::uint32_t codes, std::uint32_t bytes) {
  std::uint32_t d;
  asm("prmt.b32 %0, %1, 0, %2;" : "=r"(d) : "r"(codes), "r"(bytes));
  return (d << 4) & 0x87f087f0U;
}

// Four codes, lowest byte first, times `scale` over 2^120.
__device__ inline uint2 mla_widen(std::uint32_t codes, std::uint32_t scale) {
  return {mla_multiply_pairs(mla_place_codes(codes, 0x9180), scale),
          mla_multiply_pairs(mla_place_codes(codes, 0xb3a2), scale)};
}

// A lane's part of a group of 8 keys: key l / 4, of each scale group two runs of 16 codes. Eight
// lanes read 128 bytes of two keys, the first half of one and the second of the other, and write
// eight different chunks of an atom's rows.
struct MlaWidening {
  static constexpr int kRuns = 8;

  __device__ MlaWidening(std::uint32_t group, int lane) {
    const int key = lane / 4;
    const int odd = key % 2;
    const std::uint32_t codes =
        group + static_cast<std::uint32_t>(MlaFp8Keys::kCodes + key * kMlaLatent + lane % 4 * 16);
    from[0] = codes + static_cast<std::uint32_t>(odd * 64);
    from[1] = codes + static_cast<std::uint32_t>((1 - odd) * 64);
    const std::uint32_t row = group + static_cast<std::uint32_t>(key * 128);
    const auto second = static_cast<std::uint32_t>(odd * MlaTile::kAtomBytes);
    chunk = static_cast<std::uint32_t>((lane % 4 * 2 ^ key) * 16);
    atom[0] = row + second;
    atom[1] = row + (second ^ MlaTile::kAtomBytes);
  }
  __device__ void load(int run, uint4& codes) const {
    hopper::load_shared(codes, from[run % 2] + static_cast<std::uint32_t>(run / 2 * 128));
  }
  // Where the run's values go, 8 in two places each.
  __device__ std::uint32_t to(int run, int half) const {
    return atom[run % 2] + static_cast<std::uint32_t>(run / 2 * 2 * MlaTile::kAtomBytes) +
           (chunk ^ static_cast<std::uint32_t>(half * 16));
  }

  std::uint32_t from[2];  // of even and odd runs
  std::uint32_t atom[2];
  std::uint32_t chunk;
};

// Multiplies what was written by what is left of scales beyond 2^7, which with 2^120 are no
// numbers. Rare, so nothing is held for it in registers: scales are kept at `scales_at`.
__device__ inline void mla_widen_again(std::uint32_t group, std::uint32_t scales_at) {
  int lane;
  asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
  const MlaWidening place(group, lane);
  float scale;
  hopper::load_shared(scale, scales_at + static_cast<std::uint32_t>(lane * 4));
  const std::uint32_t left = mla_pair_of(scale > 0x1p7F ? scale * 0x1p-7F : 1.0F);
#pragma unroll 1
  for (int i = 0; i < 2 * MlaWidening::kRuns; ++i) {
    const std::uint32_t factor = __shfl_sync(kAllLanes, left, i / 4, 4);
    uint4 values;
    const std::uint32_t at = place.to(i / 2, i % 2);
    hopper::load_shared(values, at);
    hopper::store_shared(
        at, uint4{mla_multiply_pairs(values.x, factor), mla_multiply_pairs(values.y, factor),
                  mla_multiply_pairs(values.z, factor), mla_multiply_pairs(values.w, factor)});
  }
}

// A group of keys, by a warp.
__device__ inline void mla_widen_group(std::uint32_t group, std::uint32_t scales_at, int lane) {
  using namespace hopper;
  constexpr int kRuns = MlaWidening::kRuns;
  constexpr int kHeld = 3;
  const MlaWidening place(group, lane);
  float scale;  // of the key's scale group lane % 4
  load_shared(scale, group + static_cast<std::uint32_t>(MlaFp8Keys::kScales + lane * 4));
  uint4 codes[kHeld];
#pragma unroll
  for (int run = 0; run < kHeld; ++run) place.load(run, codes[run]);
  store_shared(scales_at + static_cast<std::uint32_t>(lane * 4), scale);
  const bool any_large = __any_sync(kAllLanes, scale > 0x1p7F) != 0;
  const std::uint32_t scales = mla_pair_of((scale > 0x1p7F ? 0x1p7F : scale) * 0x1p120F);
#pragma unroll
  for (int run = 0; run < kRuns; ++run) {
    const std::uint32_t factor = __shfl_sync(kAllLanes, scales, run / 2, 4);
    const uint4& own = codes[run % kHeld];
    const uint2 a = mla_widen(own.x, factor);
    const uint2 b = mla_widen(own.y, factor);
    const uint2 c = mla_widen(own.z, factor);
    const uint2 d = mla_widen(own.w, factor);
    if (run + kHeld < kRuns) place.load(run + kHeld, codes[run % kHeld]);
    // What is written now was scales, and from run 4 on codes.
    if (run == 2 || run == 4) __syncwarp();
    store_shared(place.to(run, 0), uint4{a.x, a.y, b.x, b.y});
    store_shared(place.to(run, 1), uint4{c.x, c.y, d.x, d.y});
  }
  if (any_large) mla_widen_again(group, scales_at);
}

// Warp `warp` of kWarps: every kWarps-th group of keys of all pieces.
__device__ inline void mla_widen_keys(const MlaTile& tile, const MlaAttentionParams& p, int share,
                                      int warp) {
  using namespace hopper;
  constexpr int kGroups = MlaTile::kStageGroups;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const MlaShare& own = p.shares[share];
  const auto groups = [](const MlaPiece& piece) {
    return (piece.last_tile - piece.first_tile) * (kMlaTileKeys / 8);
  };
  int pieces = own.pieces;  // to come, with the current one
  if (pieces == 0) return;
  int end = groups(own.first);  // of the groups of the pieces up to the current one
  const MlaPiece* next = p.pieces + own.others;
#pragma unroll 1
  for (int group = warp;; group += MlaFp8Keys::kWarps) {
    while (group >= end) {
      if (--pieces == 0) return;
      end += groups(*next++);
    }
    const MlaStage stage(group / kGroups);
    const int in_stage = group % kGroups;
    // Until the place's turn before is over the parity of this one says nothing, and a warp meets
    // another's groups there.
    barrier_wait(tile.full(stage.index), stage.parity ^ 1U);
    barrier_wait(tile.copied(stage.index, in_stage), stage.parity);
    mla_widen_group(
        tile.stage(stage.index) + static_cast<std::uint32_t>(in_stage * MlaTile::kGroupBytes),
        tile.widened_scales(warp), lane);
    fence_async_shared();
    __syncwarp();
    barrier_arrive_warp(tile.full(stage.index), lane);
  }
}

}  // namespace latentd::cuda
