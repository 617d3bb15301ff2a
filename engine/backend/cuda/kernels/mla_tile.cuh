// What the parts of the 512 + 64 attention kernel share: its shared memory, its barriers, and how a
// CTA finds its work.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/hopper.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

struct MlaTile {
  static constexpr int kStageKeys = 32;
  static constexpr int kStages = 4;
  static constexpr int kStageGroups = kStageKeys / 8;
  // Warpgroups: one brings keys, one scores, two add values.
  static constexpr int kGroupThreads = 128;
  static constexpr int kValueThreads = 2 * kGroupThreads;
  static constexpr int kThreads = 4 * kGroupThreads;
  static constexpr int kScoreWarps = kGroupThreads / kWarp;
  static constexpr int kValueWarps = kValueThreads / kWarp;
  static constexpr int kWidenWarps = 7;  // over an fp8 cache

  static constexpr int kBlocks = kMlaWidth / 64;            // of 64 columns, 128 bytes
  static constexpr int kAtomBytes = 1024;                   // 8 rows of a block
  static constexpr int kGroupBytes = kBlocks * kAtomBytes;  // 8 keys or queries
  static constexpr int kStageBytes = kStageGroups * kGroupBytes;

  // Shared memory, from an address aligned to 1024 bytes.
  static constexpr int kQueries = 0;
  static constexpr int kKeys = kQueries + kMlaTileRows / 8 * kGroupBytes;
  static constexpr int kWeights = kKeys + kStages * kStageBytes;
  static constexpr int kKeep = kWeights + kMlaTileRows * kMlaTileKeys * 2;  // [64] fp32
  static constexpr int kRuns = kKeep + kMlaTileRows * 4;                    // [2][64] float2
  static constexpr int kMoved = kRuns + 2 * kMlaTileRows * 8;               // [kScoreWarps] int
  static constexpr int kBarriers = kMoved + kScoreWarps * 4;
  static constexpr int kWidenedScales = kBarriers + (2 * kStages + 4 + kStages * kStageGroups) * 8;
  static constexpr int kSharedBytes = kWidenedScales + kWidenWarps * kWarp * 4;  // fp32

  char* memory;
  std::uint32_t address;

  __device__ std::uint32_t queries() const { return address + kQueries; }
  __device__ std::uint32_t stage(int s) const {
    return address + kKeys + static_cast<std::uint32_t>(s * kStageBytes);
  }
  __device__ std::uint32_t weights() const { return address + kWeights; }
  // Whether the sums of a warp's rows before a tile shrink, and by what.
  __device__ int* moved() const { return reinterpret_cast<int*>(memory + kMoved); }
  __device__ float* keep() const { return reinterpret_cast<float*>(memory + kKeep); }
  // Of a piece, when its last tile is scored: highest score in powers of two, sum of exponentials.
  __device__ float2* runs(int piece) const {
    return reinterpret_cast<float2*>(memory + kRuns) + piece % 2 * kMlaTileRows;
  }
  __device__ std::uint32_t barrier(int i) const {
    return address + kBarriers + static_cast<std::uint32_t>(i * 8);
  }
  __device__ std::uint32_t full(int s) const { return barrier(s); }
  __device__ std::uint32_t empty(int s) const { return barrier(kStages + s); }
  __device__ std::uint32_t queries_full() const { return barrier(2 * kStages); }
  __device__ std::uint32_t queries_empty() const { return barrier(2 * kStages + 1); }
  // Of the weights of a tile's first or second 32 keys.
  __device__ std::uint32_t weights_empty(int half) const { return barrier(2 * kStages + 2 + half); }
  // Of a warp's keys. [kWarp]
  __device__ std::uint32_t widened_scales(int warp) const {
    return address + kWidenedScales + static_cast<std::uint32_t>(warp * kWarp * 4);
  }
  // Of 8 keys that are there and to be widened.
  __device__ std::uint32_t copied(int s, int group) const {
    return barrier(2 * kStages + 4 + s * kStageGroups + group);
  }
};

// Where half a key tile lies, of which `halves` come before it, and which turn of its barriers that
// is.
struct MlaStage {
  __device__ explicit MlaStage(int halves)
      : index(static_cast<int>(static_cast<std::uint32_t>(halves) % MlaTile::kStages)),
        parity(static_cast<std::uint32_t>(halves) / MlaTile::kStages % 2) {}
  int index;
  std::uint32_t parity;
};

// The CTA's row tile of a piece.
struct MlaRows {
  __device__ MlaRows(const MlaPiece& piece, const MlaDivision& d, int rank) {
    const int tile = piece.unit * d.group + rank;
    first = tile * kMlaTileRows;
    count = min(kMlaTileRows, piece.view.count * d.heads - first);
    row = piece.view.first_token * d.heads + first;
  }
  // Whether the 16 rows of a warp, one of which is `row_of_tile`, hold query vectors.
  __device__ bool any_of_warp(int row_of_tile) const { return row_of_tile / 16 * 16 < count; }

  int first;  // of the row's query vectors
  int count;  // not positive: the unit has no such tile
  int row;    // of all query vectors
};

// The pieces of the CTA's share, one after the other; `number` of the current one from 0 on.
struct MlaPieces {
  __device__ MlaPieces(const MlaAttentionParams& p, int share) {
    // In one round of loads: a launch begins with waiting for them.
    uint4 words[sizeof(MlaShare) / sizeof(uint4)];
    const uint4* from = reinterpret_cast<const uint4*>(&p.shares[share]);
#pragma unroll
    for (uint4& word : words) {
      asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(word.x), "=r"(word.y), "=r"(word.z), "=r"(word.w)
                   : "l"(from++));
    }
    MlaShare loaded;
    memcpy(&loaded, words, sizeof(MlaShare));
    piece = loaded.first;
    count = loaded.pieces;
    list = p.pieces + loaded.others;
  }
  // After the last.
  __device__ void begin_again(const MlaAttentionParams& p, int share) {
    number = 0;
    if (count > 1) piece = p.shares[share].first;
  }
  __device__ bool more() const { return number < count; }
  __device__ void next() {
    if (++number < count) piece = list[number - 1];
  }

  const MlaPiece* list;
  MlaPiece piece;
  int count;
  int number = 0;
};

// Whose keys a piece's key tiles are, for who asks with tiles that ascend one by one.
struct MlaKeys {
  __device__ MlaKeys(const MlaAttentionParams& p, const MlaPiece& piece)
      : now(piece.keys), next(p.segments + piece.next_segment) {}
  // Whether other keys begin with the unit's tile t.
  __device__ bool begin(int t) {
    if (t < now.last_tile) return false;
    now = *next++;
    return true;
  }
  __device__ int first_key(int t) const { return (t - now.behind) * kMlaTileKeys; }
  // The first of the piece's tiles from now on that is its last, or of other keys, or that rows
  // which see the first `seen` keys do not see whole.
  __device__ int plain_until(const MlaPiece& piece, int seen) const {
    return min(min(now.last_tile, piece.last_tile - 1), now.behind + seen / kMlaTileKeys);
  }
  // Keys that query vector `vector` of the unit sees, of `most` that its token may see.
  __device__ int limit(int vector, int most) const {
    return vector < now.first_vector || vector >= now.last_vector ? 0 : min(now.context, most);
  }

  MlaSegment now;
  const MlaSegment* next;
};

// The counter of a unit's pieces.
__device__ inline std::uint32_t* mla_counter(const MlaAttentionParams& p, const MlaPiece& piece,
                                             int rank) {
  return p.partials.arrived + static_cast<std::size_t>(piece.first_slot) * p.division.group + rank;
}

// The scorer hands the weights of half a tile to the values: by a barrier of threads, of which who
// waits knows sooner than of one in memory. All lanes of the scorer's warps call the first.
constexpr int kMlaWeightThreads = MlaTile::kGroupThreads + MlaTile::kValueThreads;
__device__ inline void mla_give_half(int half) {
  hopper::named_barrier_arrive(2 + half, kMlaWeightThreads);
}
// What the scorer wrote is seen by products after a fence here. There it would hold the weights up:
// its own writes have just begun.
__device__ inline void mla_take_half(int half) {
  hopper::named_barrier(2 + half, kMlaWeightThreads);
  hopper::fence_async_shared();
}

// The two warpgroups of values.
__device__ inline void mla_value_barrier() { hopper::named_barrier(1, MlaTile::kValueThreads); }

__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline float inverse_fast(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace latentd::cuda
