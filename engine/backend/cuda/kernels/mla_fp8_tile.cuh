// What the parts of the 512 + 64 attention kernel over an fp8 cache share: its shared memory, its
// barriers, and how codes become operands of products.
#pragma once

#include <cstdint>

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/hopper.cuh"
#include "engine/backend/cuda/kernels/mla_tile.cuh"

namespace latentd::cuda {

constexpr float kMlaFp8LeastScale = 0x1p-60F;  // latents below this times 2^-24 count as zero
constexpr float kMlaFp8Weight = 0x1p14F;       // the largest weight

struct MlaFp8Tile {
  static constexpr int kStageKeys = 32;
  static constexpr int kStages = 6;
  // Warpgroups: two add values, one scores, of one a warp copies and a warp prepares scales.
  static constexpr int kGroupThreads = 128;
  static constexpr int kThreads = 4 * kGroupThreads;
  static constexpr int kScoreWarps = 4;
  static constexpr int kValueWarps = 8;
  static constexpr int kCopyRegisters = 32;
  static constexpr int kScoreRegisters = 128;
  static constexpr int kValueRegisters = 176;

  static constexpr int kScaleGroups = 4;   // of 128 latents
  static constexpr int kAtomBytes = 1024;  // 8 rows of 128 bytes, swizzled
  // Of a key.
  static constexpr int kCodeBytes = kMlaLatent;
  static constexpr int kRopeBytes = kMlaRope * 2;
  static constexpr int kScaleBytes = kScaleGroups * 4;
  static constexpr int kKeyBytes = kCodeBytes + kRopeBytes + kScaleBytes;
  static constexpr int kStageBytes = kStageKeys * (kCodeBytes + kRopeBytes);
  static constexpr int kQueryGroupBytes = kMlaWidth / 64 * kAtomBytes;  // of 8 queries

  // Shared memory, from an address aligned to 1024 bytes.
  static constexpr int kQueries = 0;
  static constexpr int kKeys = kQueries + kMlaTileRows / 8 * kQueryGroupBytes;
  static constexpr int kWeights = kKeys + kStages * kStageBytes;
  static constexpr int kScales = kWeights + kMlaTileRows * kMlaTileKeys * 2;
  static constexpr int kRatios = kScales + kStages * kStageKeys * kScaleGroups * 4;
  static constexpr int kLargest = kRatios + kStages * kStageKeys * kScaleGroups * 2;
  static constexpr int kStageLargest = kLargest + kStages * kStageKeys * 4;
  static constexpr int kMaxima = kStageLargest + 64;                   // [2][warps][rows]
  static constexpr int kHighest = kMaxima + 2 * 4 * kMlaTileRows * 4;  // [2][rows]
  static constexpr int kSums = kHighest + 2 * kMlaTileRows * 4;        // [warps][rows]
  static constexpr int kFactors = kSums + 4 * kMlaTileRows * 4;
  static constexpr int kLimits = kFactors + kMlaTileRows * 4;
  static constexpr int kKeep = kLimits + kMlaTileRows * 4;
  static constexpr int kRuns = kKeep + 2 * kMlaTileRows * 4;  // [2][rows] float2
  static constexpr int kUnits = kRuns + 2 * kMlaTileRows * 8;
  static constexpr int kShrinks = kUnits + 8;
  static constexpr int kBarriers = kShrinks + 8;
  static constexpr int kBytes = kBarriers + (3 * kStages + 2) * 8;
  static constexpr int kSharedBytes = kBytes + 1024;  // to align it
  static_assert(kSharedBytes <= 227 * 1024);

  char* memory;
  std::uint32_t address;

  template <typename T>
  __device__ T* at(int offset) const {
    return reinterpret_cast<T*>(memory + offset);
  }
  __device__ std::uint32_t queries() const { return address + kQueries; }
  // [copies of kCopiedKeys keys][4 blocks of 128 latents][keys][128 bytes], swizzled.
  __device__ std::uint32_t codes(int s) const {
    return address + kKeys + static_cast<std::uint32_t>(s * kStageBytes);
  }
  // Of 8 keys from `key` on in a block.
  template <int kCopiedKeys>
  static __device__ constexpr int code_offset(int key, int block) {
    return key / kCopiedKeys * kCopiedKeys * kCodeBytes + block * kCopiedKeys * 128 +
           key % kCopiedKeys * 128;
  }
  // [keys][128 bytes], swizzled.
  __device__ std::uint32_t rope(int s) const { return codes(s) + kStageKeys * kCodeBytes; }
  __device__ std::uint32_t scales(int s) const {
    return address + kScales + static_cast<std::uint32_t>(s * kStageKeys * kScaleBytes);
  }
  // [scale groups][keys] fp16: a group's scale by the largest of its key.
  __device__ std::uint16_t* ratios(int s) const {
    return at<std::uint16_t>(kRatios) + s * kStageKeys * kScaleGroups;
  }
  // [keys]: the largest scale, 0 past the context.
  __device__ float* largest(int s) const { return at<float>(kLargest) + s * kStageKeys; }
  __device__ float& stage_largest(int s) const { return at<float>(kStageLargest)[s]; }
  // fp16 [queries][keys], swizzled.
  __device__ std::uint32_t weights() const { return address + kWeights; }
  __device__ float* maxima(int parity, int warp) const {
    return at<float>(kMaxima) + (parity * kScoreWarps + warp) * kMlaTileRows;
  }
  __device__ float* highest(int parity) const {
    return at<float>(kHighest) + parity * kMlaTileRows;
  }
  __device__ float* sums(int warp) const { return at<float>(kSums) + warp * kMlaTileRows; }
  // From products to scores in powers of two.
  __device__ float* factors() const { return at<float>(kFactors); }
  // Keys that a query sees.
  __device__ int* limits() const { return at<int>(kLimits); }
  // By which the sums before a tile shrink.
  __device__ float* keep(int tiles) const { return at<float>(kKeep) + tiles % 2 * kMlaTileRows; }
  // Whether any of them is not one.
  __device__ int& shrinks(int tiles) const { return at<int>(kShrinks)[tiles % 2]; }
  // Of a piece, when its last tile is scored: highest score in powers of two, sum of exponentials,
  // and what one is in the sums of values.
  __device__ float2* runs(int piece) const { return at<float2>(kRuns) + piece % 2 * kMlaTileRows; }
  __device__ float& unit(int piece) const { return at<float>(kUnits)[piece % 2]; }

  __device__ std::uint32_t barrier(int i) const {
    return address + kBarriers + static_cast<std::uint32_t>(i * 8);
  }
  __device__ std::uint32_t full(int s) const { return barrier(s); }
  __device__ std::uint32_t empty(int s) const { return barrier(kStages + s); }
  __device__ std::uint32_t scaled(int s) const { return barrier(2 * kStages + s); }
  __device__ std::uint32_t weights_full() const { return barrier(3 * kStages); }
  __device__ std::uint32_t weights_empty() const { return barrier(3 * kStages + 1); }
};

// The stage that a role uses next.
struct MlaFp8Cursor {
  int stage = 0;
  std::uint32_t parity = 0;

  __device__ void advance() {
    if (++stage == MlaFp8Tile::kStages) {
      stage = 0;
      parity ^= 1U;
    }
  }
  // Until keys and scales are there.
  __device__ void wait(const MlaFp8Tile& tile) const {
    hopper::barrier_wait(tile.full(stage), parity);
    hopper::barrier_wait(tile.scaled(stage), parity);
  }
};

// What a role has behind it.
struct MlaFp8Progress {
  MlaFp8Cursor at;
  int tiles = 0;  // of all pieces
  int pieces = 0;
};

// Two codes, in the lower or upper half of x, as fp16: exact.
__device__ inline std::uint32_t widen_low(std::uint32_t x) {
  std::uint32_t d;
  asm("{\n.reg .b16 a, b;\nmov.b32 {a, b}, %1;\ncvt.rn.f16x2.e4m3x2 %0, a;\n}" : "=r"(d) : "r"(x));
  return d;
}
__device__ inline std::uint32_t widen_high(std::uint32_t x) {
  std::uint32_t d;
  asm("{\n.reg .b16 a, b;\nmov.b32 {a, b}, %1;\ncvt.rn.f16x2.e4m3x2 %0, b;\n}" : "=r"(d) : "r"(x));
  return d;
}
__device__ inline std::uint32_t multiply_halves(std::uint32_t a, std::uint32_t b) {
  std::uint32_t d;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}
__device__ inline std::uint32_t multiply_bf16_pairs(std::uint32_t a, std::uint32_t b) {
  std::uint32_t d;
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}

// Of a power of two, exact.
__device__ inline float inverse_power(float x) {
  return __uint_as_float((254U << 23) - __float_as_uint(x));
}

}  // namespace latentd::cuda
