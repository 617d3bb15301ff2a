// Absorbed attention at 512 + 64 in bf16 on sm_90a: tensor cores, the copy engine, one CTA an SM.
//
// Two warpgroups compute, one warp copies. Keys arrive in stages of 32 tokens: groups of 8 tokens,
// each nine atoms of [8 tokens, 64 columns] under the 128-byte swizzle. Read along the columns they
// are the keys of Q K^T, read along the tokens the values of P V, so nothing is transposed. For a
// key tile of two stages warpgroup w scores the 32 keys of stage w for all 64 rows; both agree on
// the rows' maxima, write their halves of P, and warpgroup w adds P V into its 256 of the 512
// columns, which it holds in registers from the first to the last tile of a piece.
//
// A piece that is all of its unit is divided by its sum and written as bf16. Others leave fp32
// sums, and after its last piece a CTA merges its part of the rows of every unit that it shared, in
// the order of the keys: all CTAs are resident, and none waits before its own pieces are done.
#pragma once

#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/hopper.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

struct MlaTile {
  static constexpr int kStageKeys = 32;
  static constexpr int kStages = 4;
  static constexpr int kComputeThreads = 256;
  static constexpr int kComputeWarps = kComputeThreads / kWarp;
  static constexpr int kThreads = kComputeThreads + 128;  // registers move by warpgroups
  static constexpr int kComputeRegisters = 232;
  static constexpr int kCopyRegisters = 40;

  static constexpr int kBlocks = kMlaWidth / 64;            // of 64 columns, 128 bytes
  static constexpr int kAtomBytes = 1024;                   // 8 rows of a block
  static constexpr int kGroupBytes = kBlocks * kAtomBytes;  // 8 keys or queries
  static constexpr int kStageBytes = kStageKeys / 8 * kGroupBytes;

  // Shared memory, from an address aligned to 1024 bytes.
  static constexpr int kQueries = 0;
  static constexpr int kKeys = kQueries + kMlaTileRows / 8 * kGroupBytes;
  static constexpr int kWeights = kKeys + kStages * kStageBytes;
  static constexpr int kHighest = kWeights + kMlaTileRows * kMlaTileKeys * 2;  // [2][64] fp32
  static constexpr int kSums = kHighest + 2 * kMlaTileRows * 4;                // [2][64] fp32
  static constexpr int kBarriers = kSums + 2 * kMlaTileRows * 4;
  static constexpr int kBytes = kBarriers + (2 * kStages + 2) * 8;
  static constexpr int kSharedBytes = kBytes + 1024;  // to align it

  char* memory;
  std::uint32_t address;

  __device__ std::uint32_t queries() const { return address + kQueries; }
  __device__ std::uint32_t stage(int s) const { return address + kKeys + s * kStageBytes; }
  __device__ std::uint32_t weights() const { return address + kWeights; }
  __device__ float* highest() const { return reinterpret_cast<float*>(memory + kHighest); }
  __device__ float* sums() const { return reinterpret_cast<float*>(memory + kSums); }
  __device__ std::uint32_t full(int s) const { return address + kBarriers + s * 8; }
  __device__ std::uint32_t empty(int s) const { return full(kStages + s); }
  __device__ std::uint32_t queries_full() const { return full(2 * kStages); }
  __device__ std::uint32_t queries_empty() const { return full(2 * kStages + 1); }
};

// The CTA's row tile of a piece.
struct MlaRows {
  __device__ MlaRows(const MlaPiece& piece, const MlaDivision& d, int rank) {
    const int tile = piece.unit * d.group + rank;
    first = tile * kMlaTileRows;
    count = min(kMlaTileRows, piece.view.count * d.heads - first);
    row = piece.view.first_token * d.heads + first;
  }
  int first;  // of the row's query vectors
  int count;  // not positive: the unit has no such tile
  int row;    // of all query vectors
};

// The page-table entries around the key that is copied next, one a lane.
struct MlaPages {
  const std::int32_t* table;
  int page_tokens;
  int context;
  int first = -kWarp;  // lane l holds entry first + l
  int page = 0;

  // Entries of keys that nobody may see are not read. All lanes call, with keys that ascend by less
  // than 32 pages from lane to lane.
  __device__ int of(int key, int lane) {
    const int lowest = __shfl_sync(kAllLanes, key, 0) / page_tokens;
    const int highest = __shfl_sync(kAllLanes, key, MlaTile::kStageKeys / 8 - 1) / page_tokens;
    if (highest >= first + kWarp) {
      first = lowest;
      page = (first + lane) * page_tokens < context ? table[first + lane] : 0;
    }
    return __shfl_sync(kAllLanes, page, key / page_tokens - first);
  }
};

// One warp: keys and queries of all pieces into shared memory, in the order of their use. The CTAs
// of a cluster share the keys: each copies a part of every stage to all of them.
template <int kGroup>
__device__ void mla_copy(const MlaTile& tile, const MlaAttentionParams& p,
                         const CUtensorMap* query_map, const CUtensorMap* key_map, MlaWalk walk,
                         int rank) {
  using namespace hopper;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const BatchView& batch = p.attention.batch;
  int tiles_done = 0;
  std::uint32_t queries_parity = 1;
  MlaPiece piece;
  while (walk.next(piece)) {
    const MlaRows rows(piece, p.division, rank);
    const int page_tokens = p.attention.cache.page_tokens;
    MlaPages pages{batch.page_table + static_cast<std::size_t>(piece.view.slot) * batch.max_pages,
                   page_tokens, piece.context};
    for (int t = piece.first_tile; t < piece.last_tile; ++t, ++tiles_done) {
      const std::uint32_t parity = static_cast<std::uint32_t>(tiles_done / 2 + 1) & 1U;
      for (int half = 0; half < 2; ++half) {
        const int stage = tiles_done % 2 * 2 + half;
        const int first_key = t * kMlaTileKeys + half * MlaTile::kStageKeys;
        const int keys = max(min(MlaTile::kStageKeys, piece.context - first_key), 0);
        const int boxes = mla_divide_up(keys, 8);
        const int key = first_key + min(lane, MlaTile::kStageKeys / 8 - 1) * 8;
        const int page = keys > 0 ? pages.of(key, lane) : 0;
        if (lane == 0) {
          barrier_wait(tile.empty(stage), parity);
          barrier_arrive_expecting(tile.full(stage),
                                   static_cast<std::uint32_t>(boxes * MlaTile::kGroupBytes));
        }
        __syncwarp();
        const std::uint32_t to =
            tile.stage(stage) + static_cast<std::uint32_t>(lane * MlaTile::kGroupBytes);
        if constexpr (kGroup == 1) {
          if (lane < boxes) {
            copy_tensor_4d(to, key_map, tile.full(stage), 0, key % page_tokens, 0, page);
          }
        } else {
          if (lane < boxes && lane % kGroup == rank) {
            multicast_tensor_4d(to, key_map, tile.full(stage), (1U << kGroup) - 1, 0,
                                key % page_tokens, 0, page);
          }
        }
      }
      if (t == piece.first_tile) {
        const int groups = max(mla_divide_up(rows.count, 8), 0);
        if (lane == 0) {
          barrier_wait(tile.queries_empty(), queries_parity);
          barrier_arrive_expecting(tile.queries_full(),
                                   static_cast<std::uint32_t>(groups * MlaTile::kGroupBytes));
        }
        __syncwarp();
        if (lane < groups) {
          copy_tensor_3d(tile.queries() + static_cast<std::uint32_t>(lane * MlaTile::kGroupBytes),
                         query_map, tile.queries_full(), 0, rows.row + lane * 8, 0);
        }
        queries_parity ^= 1U;
      }
    }
  }
}

// What a thread of the computing warpgroups keeps of a piece: two rows, the columns of its
// warpgroup.
struct MlaState {
  float out[128];
  float highest[2];  // of the scores so far, unscaled
  float sum[2];      // of the exponentials of the thread's own keys
  int limit[2];      // keys that the row sees
};

struct MlaThread {
  __device__ MlaThread()
      : lane(static_cast<int>(threadIdx.x) % kWarp),
        group(static_cast<int>(threadIdx.x) / 128),
        row(static_cast<int>(threadIdx.x) % 128 / kWarp * 16 + lane / 4),
        column(lane % 4 * 2) {}
  int lane;
  int group;   // warpgroup
  int row;     // and row + 8
  int column;  // and column + 1, of each 8
};

constexpr int kComputeBarrier = 1;

__device__ inline void mla_compute_barrier() {
  hopper::named_barrier(kComputeBarrier, MlaTile::kComputeThreads);
}

// scores [64, 32] = Q K^T over the keys of one stage.
__device__ inline void mla_score(const MlaTile& tile, int stage, float (&scores)[16]) {
  using namespace hopper;
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < kMlaWidth / 16; ++k) {
    const auto offset = static_cast<std::uint32_t>(k / 4 * MlaTile::kAtomBytes + k % 4 * 32);
    wgmma_n32(scores, descriptor(tile.queries() + offset, 16, MlaTile::kGroupBytes),
              descriptor(tile.stage(stage) + offset, 16, MlaTile::kGroupBytes), k > 0);
  }
  wgmma_commit();
  wgmma_wait<0>();
  wgmma_results(scores);
}

// out += P V over the key tile's two stages, for the warpgroup's 256 columns.
__device__ inline void mla_add_values(const MlaTile& tile, int first_stage, int group,
                                      float (&out)[128]) {
  using namespace hopper;
  wgmma_results(out);
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < kMlaTileKeys / 16; ++k) {
    const std::uint32_t values = tile.stage(first_stage + k / 2) +
                                 static_cast<std::uint32_t>(k % 2 * 2 * MlaTile::kGroupBytes +
                                                            group * 4 * MlaTile::kAtomBytes);
    wgmma_n256(
        out,
        descriptor(tile.weights() + static_cast<std::uint32_t>(k * 32), 16, MlaTile::kAtomBytes),
        descriptor(values, MlaTile::kAtomBytes, MlaTile::kGroupBytes), true);
  }
  wgmma_commit();
  wgmma_wait<0>();
  wgmma_results(out);
}

// Keys from `keys` on in the key tile become zeros: what lies there may be NaN, which a weight of
// zero does not take away.
__device__ inline void mla_clear_keys(const MlaTile& tile, int first_stage, int keys) {
  constexpr int kChunks = MlaTile::kBlocks * 8;  // of 16 bytes in a key
  char* stage = tile.memory + MlaTile::kKeys + first_stage * MlaTile::kStageBytes;
  for (int i = static_cast<int>(threadIdx.x); i < (kMlaTileKeys - keys) * kChunks;
       i += MlaTile::kComputeThreads) {
    const int key = keys + i / kChunks;
    const int chunk = i % kChunks;
    *reinterpret_cast<uint4*>(stage + key / 8 * MlaTile::kGroupBytes +
                              chunk / 8 * MlaTile::kAtomBytes + key % 8 * 128 + chunk % 8 * 16) =
        uint4{0, 0, 0, 0};
  }
}

__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// The warpgroup's half of an online softmax step over a key tile: scores become weights in shared
// memory, and what was summed before is scaled to the new maxima.
__device__ inline void mla_soften(const MlaTile& tile, const MlaThread& thread, float (&scores)[16],
                                  int first_key, float scale, MlaState& state) {
  const int key = first_key + thread.group * MlaTile::kStageKeys + thread.column;
  float highest[2] = {-INFINITY, -INFINITY};
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    const int row = i / 2 % 2;
    if (key + i / 4 * 8 + i % 2 >= state.limit[row]) scores[i] = -INFINITY;
    highest[row] = fmaxf(highest[row], scores[i]);
  }
  float* shared = tile.highest();
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    highest[row] = fmaxf(highest[row], __shfl_xor_sync(kAllLanes, highest[row], 1));
    highest[row] = fmaxf(highest[row], __shfl_xor_sync(kAllLanes, highest[row], 2));
    if (thread.column == 0) {
      shared[thread.group * kMlaTileRows + thread.row + row * 8] = highest[row];
    }
  }
  mla_compute_barrier();
  float keep[2];
  float offset[2];
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    const float other = shared[(1 - thread.group) * kMlaTileRows + thread.row + row * 8];
    const float now = fmaxf(state.highest[row], fmaxf(highest[row], other));
    // A row that has seen nothing yet: every weight is 2^(-inf - 0).
    offset[row] = now == -INFINITY ? 0.0F : now * scale;
    keep[row] = exp2_fast(state.highest[row] * scale - offset[row]);
    state.highest[row] = now;
    state.sum[row] *= keep[row];
  }
  char* weights = tile.memory + MlaTile::kWeights + thread.row * 128 + thread.column * 2;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const float a = exp2_fast(fmaf(scores[4 * j + 2 * row], scale, -offset[row]));
      const float b = exp2_fast(fmaf(scores[4 * j + 2 * row + 1], scale, -offset[row]));
      state.sum[row] += a + b;
      const int chunk = (thread.group * 4 + j) ^ (thread.row % 8);  // rows + 8 swizzle alike
      *reinterpret_cast<__nv_bfloat162*>(weights + row * 8 * 128 + chunk * 16) =
          __floats2bfloat162_rn(a, b);
    }
  }
  if (__any_sync(kAllLanes, keep[0] != 1.0F || keep[1] != 1.0F)) {
#pragma unroll
    for (int i = 0; i < 128; ++i) state.out[i] *= keep[i / 2 % 2];
  }
}

// Row `row` of the thread's two as bf16. The four lanes that hold a row exchange their pairs, so
// that each writes 8 columns of every 32: whole sectors.
__device__ inline void mla_store_row(const MlaThread& thread, const MlaAttentionParams& p,
                                     const MlaRows& rows, int row, float factor,
                                     const MlaState& state) {
  const int quarter = thread.column / 2;
  const int r = thread.row + row * 8;
  auto* out = static_cast<__nv_bfloat16*>(p.attention.out) +
              static_cast<std::size_t>(rows.row + r) * kMlaLatent + thread.group * 256 +
              quarter * 8;
#pragma unroll
  for (int j = 0; j < 32; j += 4) {
    std::uint32_t pairs[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(
          state.out[4 * (j + i) + 2 * row] * factor, state.out[4 * (j + i) + 2 * row + 1] * factor);
      pairs[i] = *reinterpret_cast<const std::uint32_t*>(&pair);
    }
    // A 4 x 4 transposition: first of blocks of two, then within them.
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const std::uint32_t other =
          __shfl_xor_sync(kAllLanes, quarter < 2 ? pairs[i + 2] : pairs[i], 2);
      (quarter < 2 ? pairs[i + 2] : pairs[i]) = other;
    }
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
      const std::uint32_t other =
          __shfl_xor_sync(kAllLanes, quarter % 2 == 0 ? pairs[i + 1] : pairs[i], 1);
      (quarter % 2 == 0 ? pairs[i + 1] : pairs[i]) = other;
    }
    if (r < rows.count) {
      *reinterpret_cast<uint4*>(out + j * 8) = uint4{pairs[0], pairs[1], pairs[2], pairs[3]};
    }
  }
}

// Writes a unit's result, or a piece's part of it.
__device__ inline void mla_store(const MlaTile& tile, const MlaThread& thread,
                                 const MlaAttentionParams& p, const MlaPiece& piece,
                                 const MlaRows& rows, int rank, float scale, MlaState& state) {
  float* shared = tile.sums();
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    state.sum[row] += __shfl_xor_sync(kAllLanes, state.sum[row], 1);
    state.sum[row] += __shfl_xor_sync(kAllLanes, state.sum[row], 2);
    if (thread.column == 0) {
      shared[thread.group * kMlaTileRows + thread.row + row * 8] = state.sum[row];
    }
  }
  mla_compute_barrier();
  const std::size_t slot =
      static_cast<std::size_t>(mla_slot(piece, p.division, piece.index)) * p.division.group + rank;
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    const int r = thread.row + row * 8;
    const float sum = shared[r] + shared[kMlaTileRows + r];
    if (piece.count == 1) {
      mla_store_row(thread, p, rows, row, 1.0F / sum, state);
    } else if (r < rows.count) {
      float* sums = p.partials.sums + (slot * kMlaTileRows + r) * kMlaLatent + thread.group * 256 +
                    thread.column;
#pragma unroll
      for (int j = 0; j < 32; ++j) {
        *reinterpret_cast<float2*>(sums + j * 8) =
            float2{state.out[4 * j + 2 * row], state.out[4 * j + 2 * row + 1]};
      }
      if (thread.group == 0 && thread.column == 0) {
        p.partials.runs[slot * kMlaTileRows + r] = {state.highest[row] * scale, sum};
      }
    }
  }
}

// The counter of a unit's pieces.
__device__ inline std::uint32_t* mla_counter(const MlaAttentionParams& p, const MlaPiece& piece,
                                             int rank) {
  return p.partials.arrived + static_cast<std::size_t>(piece.first_slot) * p.division.group + rank;
}

// A warp is done with a stage: whoever copies into it must know.
template <int kGroup>
__device__ void mla_release(const MlaTile& tile, int stage, int lane) {
  if constexpr (kGroup == 1) {
    if (lane == 0) hopper::barrier_arrive(tile.empty(stage));
  } else {
    if (lane < kGroup) hopper::barrier_arrive_at(tile.empty(stage), lane);
  }
}

// Two warpgroups: all pieces of the CTA. A CTA without a row tile in a unit computes along.
template <int kGroup>
__device__ void mla_compute(const MlaTile& tile, const MlaAttentionParams& p, MlaWalk walk,
                            int rank) {
  using namespace hopper;
  const MlaThread thread;
  const float scale = p.attention.geometry.softmax_scale * 1.44269504088896341F;
  int tiles_done = 0;
  std::uint32_t queries_parity = 0;
  MlaPiece piece;
  MlaState state;
  while (walk.next(piece)) {
    const MlaRows rows(piece, p.division, rank);
#pragma unroll
    for (int i = 0; i < 128; ++i) state.out[i] = 0.0F;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      state.highest[row] = -INFINITY;
      state.sum[row] = 0.0F;
      const int token = (rows.first + thread.row + row * 8) / p.division.heads;
      state.limit[row] = min(piece.context, piece.view.start + token + 1);
    }
    barrier_wait(tile.queries_full(), queries_parity);
    queries_parity ^= 1U;
    for (int t = piece.first_tile; t < piece.last_tile; ++t, ++tiles_done) {
      const int stage = tiles_done % 2 * 2;
      const std::uint32_t parity = static_cast<std::uint32_t>(tiles_done / 2) & 1U;
      float scores[16];
      barrier_wait(tile.full(stage + thread.group), parity);
      mla_score(tile, stage + thread.group, scores);
      if (t == piece.last_tile - 1 && thread.lane == 0) barrier_arrive(tile.queries_empty());
      barrier_wait(tile.full(stage + 1 - thread.group), parity);
      mla_soften(tile, thread, scores, t * kMlaTileKeys, scale, state);
      const int keys = piece.context - t * kMlaTileKeys;
      if (keys < kMlaTileKeys) mla_clear_keys(tile, stage, max(keys, 0));
      fence_async_shared();
      mla_compute_barrier();
      mla_add_values(tile, stage, thread.group, state.out);
      mla_release<kGroup>(tile, stage, thread.lane);
      mla_release<kGroup>(tile, stage + 1, thread.lane);
    }
    mla_store(tile, thread, p, piece, rows, rank, scale, state);
    if (piece.count > 1 && rows.count > 0) {
      __threadfence();
      mla_compute_barrier();
      if (threadIdx.x == 0) atomicAdd(mla_counter(p, piece, rank), 1U);
    }
  }
}

// The rows of a unit that a piece's CTA merges: items [first, last), four an each row of 128
// columns.
struct MlaMergeSlice {
  static constexpr int kItems = kMlaLatent / 128;  // of a row
  static constexpr int kBatch = 8;                 // pieces that a warp reads at once

  const MlaAttentionParams& p;
  const MlaPiece& piece;
  const MlaRows& rows;
  int rank;
  int first;
  int last;
  float* factors;  // [rows of the slice, pieces]
  float4* parts;   // [warps, lanes]

  __device__ std::size_t partial_row(int i, int r) const {
    return (static_cast<std::size_t>(mla_slot(piece, p.division, i)) * p.division.group + rank) *
               kMlaTileRows +
           r;
  }
};

// A warp a row: what each piece weighs in the row's result.
__device__ inline void mla_merge_factors(const MlaMergeSlice& s) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int first_row = s.first / MlaMergeSlice::kItems;
  for (int r = first_row + static_cast<int>(threadIdx.x) / kWarp;
       r * MlaMergeSlice::kItems < s.last; r += MlaTile::kComputeWarps) {
    float* factors = s.factors + (r - first_row) * s.piece.count;
    float highest = -INFINITY;
    for (int i = lane; i < s.piece.count; i += kWarp) {
      highest = fmaxf(highest, __ldcg(&s.p.partials.runs[s.partial_row(i, r)].x));
    }
    highest = warp_reduce(highest, Max{});
    float sum = 0.0F;
    for (int i = lane; i < s.piece.count; i += kWarp) {
      const float2 run = __ldcg(&s.p.partials.runs[s.partial_row(i, r)]);
      factors[i] = exp2_fast(run.x - highest);
      sum += factors[i] * run.y;
    }
    const float inverse = 1.0F / warp_reduce(sum, Sum{});
    for (int i = lane; i < s.piece.count; i += kWarp) factors[i] *= inverse;
  }
}

// A lane's 4 columns of an item, over pieces [begin, end) in their order.
__device__ inline float4 mla_merge_item(const MlaMergeSlice& s, int item, int begin, int end) {
  const int r = item / MlaMergeSlice::kItems;
  const int column = item % MlaMergeSlice::kItems * 128 + static_cast<int>(threadIdx.x) % kWarp * 4;
  const float* factors = s.factors + (r - s.first / MlaMergeSlice::kItems) * s.piece.count;
  float4 total{0.0F, 0.0F, 0.0F, 0.0F};
  for (int i = begin; i < end; i += MlaMergeSlice::kBatch) {
    float4 part[MlaMergeSlice::kBatch];
#pragma unroll
    for (int j = 0; j < MlaMergeSlice::kBatch; ++j) {
      if (i + j >= end) break;
      part[j] = __ldcg(reinterpret_cast<const float4*>(
          s.p.partials.sums + s.partial_row(i + j, r) * kMlaLatent + column));
    }
#pragma unroll
    for (int j = 0; j < MlaMergeSlice::kBatch; ++j) {
      if (i + j >= end) break;
      const float factor = factors[i + j];
      total.x = fmaf(factor, part[j].x, total.x);
      total.y = fmaf(factor, part[j].y, total.y);
      total.z = fmaf(factor, part[j].z, total.z);
      total.w = fmaf(factor, part[j].w, total.w);
    }
  }
  return total;
}

__device__ inline void mla_merge_store(const MlaMergeSlice& s, int item, const float4& value) {
  const int column = item % MlaMergeSlice::kItems * 128 + static_cast<int>(threadIdx.x) % kWarp * 4;
  const __nv_bfloat162 pair[2] = {__floats2bfloat162_rn(value.x, value.y),
                                  __floats2bfloat162_rn(value.z, value.w)};
  auto* out = static_cast<__nv_bfloat16*>(s.p.attention.out) +
              static_cast<std::size_t>(s.rows.row + item / MlaMergeSlice::kItems) * kMlaLatent +
              column;
  *reinterpret_cast<uint2*>(out) = *reinterpret_cast<const uint2*>(pair);
}

// Few items: several warps share one, each a run of its pieces.
__device__ inline void mla_merge_slice(const MlaMergeSlice& s) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int items = s.last - s.first;
  const int team = items == 1 ? 8 : items == 2 ? 4 : items <= 4 ? 2 : 1;
  if (team == 1) {
    for (int i = s.first + warp; i < s.last; i += MlaTile::kComputeWarps) {
      mla_merge_store(s, i, mla_merge_item(s, i, 0, s.piece.count));
    }
    return;
  }
  const int item = s.first + warp / team;
  const int member = warp % team;
  const bool busy = item < s.last;
  if (busy) {
    s.parts[threadIdx.x] =
        mla_merge_item(s, item, s.piece.count * member / team, s.piece.count * (member + 1) / team);
  }
  mla_compute_barrier();
  if (!busy || member != 0) return;
  float4 total = s.parts[threadIdx.x];
  for (int i = 1; i < team; ++i) {
    const float4 part = s.parts[static_cast<int>(threadIdx.x) + i * kWarp];
    total.x += part.x;
    total.y += part.y;
    total.z += part.z;
    total.w += part.w;
  }
  mla_merge_store(s, item, total);
}

// Two warpgroups: for each piece of a cut unit, its share of the merging. The last to leave a unit
// clears its counter for the next launch.
__device__ inline void mla_merge(const MlaTile& tile, const MlaAttentionParams& p, MlaWalk walk,
                                 int rank) {
  MlaPiece piece;
  while (walk.next(piece)) {
    const MlaRows rows(piece, p.division, rank);
    if (rows.count <= 0 || piece.count == 1) continue;
    std::uint32_t* counter = mla_counter(p, piece, rank);
    const auto count = static_cast<std::uint32_t>(piece.count);
    if (threadIdx.x == 0) {
      std::uint32_t arrived = 0;
      do {
        asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
                     : "=r"(arrived)
                     : "l"(counter)
                     : "memory");
      } while (arrived < count);
    }
    mla_compute_barrier();
    const int items = rows.count * MlaMergeSlice::kItems;
    // All keys are consumed: the stages are free.
    auto* parts = reinterpret_cast<float4*>(tile.memory + MlaTile::kKeys);
    const MlaMergeSlice slice{p,
                              piece,
                              rows,
                              rank,
                              items * piece.index / piece.count,
                              items * (piece.index + 1) / piece.count,
                              reinterpret_cast<float*>(parts + MlaTile::kComputeThreads),
                              parts};
    mla_merge_factors(slice);
    mla_compute_barrier();
    mla_merge_slice(slice);
    mla_compute_barrier();
    if (threadIdx.x == 0 && atomicAdd(counter, 1U) == 2 * count - 1) *counter = 0;
  }
}

// Grid: shares clusters of kGroup CTAs, all resident.
template <int kGroup>
__global__ void __launch_bounds__(MlaTile::kThreads, 1)
    mla_attention_kernel(const __grid_constant__ CUtensorMap query_map,
                         const __grid_constant__ CUtensorMap key_map, const MlaAttentionParams p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using namespace hopper;
  extern __shared__ char memory[];
  MlaTile tile;
  const std::uint32_t unaligned = shared_address(memory);
  tile.address = (unaligned + MlaTile::kAtomBytes - 1) / MlaTile::kAtomBytes * MlaTile::kAtomBytes;
  tile.memory = memory + (tile.address - unaligned);
  if (threadIdx.x == 0) {
    for (int s = 0; s < MlaTile::kStages; ++s) {
      barrier_init(tile.full(s), 1);
      barrier_init(tile.empty(s), MlaTile::kComputeWarps * kGroup);
    }
    barrier_init(tile.queries_full(), 1);
    barrier_init(tile.queries_empty(), MlaTile::kComputeWarps);
    fence_barrier_init();
    prefetch_tensor_map(&query_map);
    prefetch_tensor_map(&key_map);
  }
  __syncthreads();
  if constexpr (kGroup > 1) cluster_barrier();
  let_next_launch_begin();
  wait_for_last_launch();
  const int share = static_cast<int>(blockIdx.x) / kGroup;
  const int rank = static_cast<int>(blockIdx.x) % kGroup;
  const BatchView& batch = p.attention.batch;
  const MlaWalk walk(p.shares[share], batch.rows, batch.num_rows, p.division, share);
  if (threadIdx.x >= MlaTile::kComputeThreads) {
    give_registers<MlaTile::kCopyRegisters>();
    if (threadIdx.x < MlaTile::kComputeThreads + kWarp) {
      mla_copy<kGroup>(tile, p, &query_map, &key_map, walk, rank);
    }
  } else {
    take_registers<MlaTile::kComputeRegisters>();
    mla_compute<kGroup>(tile, p, walk, rank);
    mla_merge(tile, p, walk, rank);
  }
  // Nobody leaves while another may still write to its memory.
  __syncwarp();
  if constexpr (kGroup > 1) cluster_barrier();
#endif
}

}  // namespace latentd::cuda
