// What the parts of the 512 + 64 attention kernel over an fp8 cache share: its shared memory, its
// barriers, and how codes become operands of products.
#pragma once

#include <cstdint>

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/hopper.cuh"
#include "engine/backend/cuda/kernels/mla_tile.cuh"

namespace latentd::cuda {

constexpr float kMlaFp8LeastScale = 0x1p-60F;  // latents below this times 2^-24 count as zero
// Scores, in powers of two, may exceed their reference by kMlaFp8Slack; a weight of one is
// kMlaFp8Weight in fp16.
constexpr float kMlaFp8Slack = 6.0F;
constexpr float kMlaFp8Weight = 0x1p9F;
constexpr float kMlaFp8Lowest = -1e30F;  // the reference before the first score

struct MlaFp8Tile {
  static constexpr int kStageKeys = 32;
  static constexpr int kMostStages = 9;
  // Warpgroups: two work, of one a warp copies keys and another queries.
  static constexpr int kGroupThreads = 128;
  static constexpr int kWorkers = 2;
  static constexpr int kWorkerWarps = 4;
  static constexpr int kWorkThreads = kWorkers * kGroupThreads;
  static constexpr int kThreads = kWorkThreads + kGroupThreads;
  static constexpr int kCopyRegisters = 40;
  static constexpr int kWorkRegisters = 232;

  static constexpr int kScaleGroups = 4;                   // of 128 latents
  static constexpr int kAtomBytes = 1024;                  // 8 rows of 128 bytes, swizzled
  static constexpr int kMostColumns = kMlaFp8MostQueries;  // queries that a worker multiplies with
  // Of a key.
  static constexpr int kCodeBytes = kMlaLatent;
  static constexpr int kRopeBytes = kMlaRope * 2;
  static constexpr int kScaleBytes = kScaleGroups * 4;
  static constexpr int kKeyBytes = kCodeBytes + kRopeBytes + kScaleBytes;
  static constexpr int kStageBytes = kStageKeys * (kCodeBytes + kRopeBytes);
  static constexpr int kQueryGroupBytes = kMlaWidth / 64 * kAtomBytes;  // of 8 queries

  // Shared memory, from an address aligned to 1024 bytes. Behind kWeights lie weights, queries and
  // stages, one behind the other.
  static constexpr int kBarriers = 0;
  static constexpr int kUnits = kBarriers + (2 * kMostStages + 2) * 8;      // [workers]
  static constexpr int kExceeded = kUnits + 8;                              // [workers][2]
  static constexpr int kTops = kUnits + 32;                                 // [workers][2][warps]
  static constexpr int kFactors = kTops + kWorkers * 2 * kWorkerWarps * 4;  // [columns]
  static constexpr int kLimits = kFactors + kMostColumns * 4;               // [columns]
  static constexpr int kMaxima = kLimits + kMostColumns * 4;  // [workers][2][warps][columns]
  static constexpr int kSums =
      kMaxima + kWorkers * 2 * kWorkerWarps * kMostColumns * 4;  // [workers][warps][columns]
  static constexpr int kReferences =
      kSums + kWorkers * kWorkerWarps * kMostColumns * 4;  // [workers][columns]
  static constexpr int kScales = kReferences + kWorkers * kMostColumns * 4;
  static constexpr int kPieces = kScales + kMostStages * kStageKeys * kScaleBytes;  // [workers]
  static constexpr int kFixedBytes = kPieces + kWorkers * static_cast<int>(sizeof(MlaPiece));
  static constexpr int kWeights = (kFixedBytes + kAtomBytes - 1) / kAtomBytes * kAtomBytes;
  static constexpr int kSharedBytes = 227 * 1024;
  static constexpr int kUsableBytes = kSharedBytes - kAtomBytes;  // once aligned
  static_assert(kTops % 16 == 0 && kMaxima % 16 == 0 && kScales % 16 == 0 && kPieces % 16 == 0);

  // Where workers multiply with kRows queries.
  template <int kRows>
  static constexpr int kQueries = kWeights + kWorkers* kScaleGroups* kRows * 128;
  template <int kRows>
  static constexpr int kKeys = kQueries<kRows> + kRows / 8 * kQueryGroupBytes;

  // Stages in what `keys` leaves; a copy of kCopiedKeys may fill two.
  static constexpr int stages_behind(int keys, int copied_keys) {
    const int fit = (kUsableBytes - keys) / kStageBytes;
    const int most = fit < kMostStages ? fit : kMostStages;
    return copied_keys > kStageKeys ? most / 2 * 2 : most;
  }
  __device__ MlaFp8Tile(char* unaligned, int keys, int num_stages)
      : keys_at(keys), stages(num_stages) {
    const std::uint32_t at = hopper::shared_address(unaligned);
    address = (at + kAtomBytes - 1) / kAtomBytes * kAtomBytes;
    memory = unaligned + (address - at);
  }

  char* memory;
  std::uint32_t address;
  int keys_at;
  int stages;

  template <typename T>
  __device__ T* at(int offset) const {
    return reinterpret_cast<T*>(memory + offset);
  }
  __device__ char* stage(int s) const { return memory + keys_at + s * kStageBytes; }
  // [copies of kCopiedKeys keys][4 blocks of 128 latents][keys][128 bytes], swizzled, and behind
  // all of a stage's the rope values [keys][128 bytes], swizzled. A copy of 64 keys lies in the
  // memory of two stages, of which the second has the keys from the 32nd on.
  template <int kCopiedKeys>
  static __device__ int codes_offset(int s) {
    return kCopiedKeys <= kStageKeys ? s * kStageBytes
                                     : s / 2 * (2 * kStageBytes) + s % 2 * (kStageKeys * 128);
  }
  template <int kCopiedKeys>
  __device__ std::uint32_t codes(int s) const {
    return address + static_cast<std::uint32_t>(keys_at + codes_offset<kCopiedKeys>(s));
  }
  // Of 8 keys from `key` on in a block.
  template <int kCopiedKeys>
  static __device__ constexpr int code_offset(int key, int block) {
    return key / kCopiedKeys * kCopiedKeys * kCodeBytes + block * kCopiedKeys * 128 +
           key % kCopiedKeys * 128;
  }
  template <int kCopiedKeys>
  __device__ std::uint32_t rope(int s) const {
    constexpr int kKeys = kCopiedKeys < kStageKeys ? kStageKeys : kCopiedKeys;
    return codes<kCopiedKeys>(s) + kKeys * kCodeBytes;
  }
  // [keys][scale groups] fp32.
  __device__ std::uint32_t scales(int s) const {
    return address + kScales + static_cast<std::uint32_t>(s * kStageKeys * kScaleBytes);
  }
  __device__ float4 scales_of(int s, int key) const {
    return at<float4>(kScales)[s * kStageKeys + key];
  }
  // fp16 [queries][keys], swizzled: a worker's weights times the scales of a group.
  template <int kQueries>
  __device__ std::uint32_t weights(int worker, int group) const {
    return address + kWeights +
           static_cast<std::uint32_t>((worker * kScaleGroups + group) * kQueries * 128);
  }
  __device__ float* maxima(int worker, int parity, int warp) const {
    return at<float>(kMaxima) + ((worker * 2 + parity) * kWorkerWarps + warp) * kMostColumns;
  }
  // The largest scale that a warp has seen in a tile.
  __device__ float* tops(int worker, int parity) const {
    return at<float>(kTops) + (worker * 2 + parity) * kWorkerWarps;
  }
  // A worker's piece: registers are for sums.
  __device__ MlaPiece& piece(int worker) const { return at<MlaPiece>(kPieces)[worker]; }
  // The last tile whose scores or scales were too large for what was known before it.
  __device__ int& exceeded(int worker, int parity) const {
    return at<int>(kExceeded)[worker * 2 + parity];
  }
  __device__ float* sums(int worker, int warp) const {
    return at<float>(kSums) + (worker * kWorkerWarps + warp) * kMostColumns;
  }
  // From products to scores in powers of two.
  __device__ float* factors() const { return at<float>(kFactors); }
  // Keys that a query sees.
  __device__ int* limits() const { return at<int>(kLimits); }
  // Of a worker's part of a piece: what its scores count from, in powers of two, and what one is in
  // its sums of values.
  __device__ float* references(int worker) const {
    return at<float>(kReferences) + worker * kMostColumns;
  }
  __device__ float& unit(int worker) const { return at<float>(kUnits)[worker]; }

  __device__ std::uint32_t full(int s) const {
    return address + kBarriers + static_cast<std::uint32_t>(s * 8);
  }
  __device__ std::uint32_t empty(int s) const { return full(kMostStages + s); }
  __device__ std::uint32_t queries_full() const { return full(2 * kMostStages); }
  __device__ std::uint32_t queries_empty() const { return full(2 * kMostStages + 1); }
};

// The stage that a role uses next.
struct MlaFp8Cursor {
  int stage = 0;
  std::uint32_t parity = 0;

  // By fewer stages than there are.
  __device__ void advance(const MlaFp8Tile& tile, int count = 1) {
    stage += count;
    if (stage < tile.stages) return;
    stage -= tile.stages;
    parity ^= 1U;
  }
  // By any number.
  __device__ void skip(const MlaFp8Tile& tile, int count) {
    advance(tile, count % tile.stages);
    if (count / tile.stages % 2 != 0) parity ^= 1U;
  }
};

// All warps of a worker.
__device__ inline void mla_fp8_worker_barrier(int worker) {
  hopper::named_barrier(2 + worker, MlaFp8Tile::kGroupThreads);
}

// A worker's piece from now on, in shared memory.
__device__ inline const MlaPiece& mla_fp8_place_piece(const MlaFp8Tile& tile, const MlaPiece& piece,
                                                      int worker) {
  mla_fp8_worker_barrier(worker);  // nobody reads the piece before
  if (threadIdx.x % MlaFp8Tile::kGroupThreads == 0) tile.piece(worker) = piece;
  mla_fp8_worker_barrier(worker);
  return tile.piece(worker);
}

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
