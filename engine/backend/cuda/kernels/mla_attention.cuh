// Absorbed attention at 512 + 64 in bf16 on sm_90a: tensor cores, the copy engine, one CTA an SM.
//
// A warp copies, a warpgroup scores, two add values. Keys arrive in stages of 32 tokens: groups of
// 8 tokens, each nine atoms of [8 tokens, 64 columns] under the 128-byte swizzle. Read along the
// columns they are the keys of Q K^T, read along the tokens the values of P V, so nothing is
// transposed. For a key tile of two stages the scorer computes S = Q K^T [64 rows, 64 keys], keeps
// the rows' running maxima and sums, and hands P = exp2(S - maximum) over in shared memory, half by
// half, with the factors by which older sums shrink. Each of the others adds P V into its 256 of
// the 512 columns, which it holds in registers from the first to the last tile of a piece. The
// scorer is a tile ahead, so its exponentials hide behind the products.
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
#include "engine/backend/cuda/kernels/mla_merge.cuh"
#include "engine/backend/cuda/kernels/mla_tile.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

// The page-table entries around the key that is copied next, one a lane.
struct MlaPages {
  __device__ MlaPages(const BatchView& batch, int tokens_of_page, const MlaSegment& keys)
      : table(batch.page_table + static_cast<std::size_t>(keys.slot) * batch.max_pages),
        page_tokens(tokens_of_page),
        context(keys.context) {}

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
                         const CUtensorMap* query_map, const CUtensorMap* key_map, int share,
                         int rank) {
  using namespace hopper;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const BatchView& batch = p.attention.batch;
  int tiles_done = 0;
  std::uint32_t queries_parity = 1;
  const int page_tokens = p.attention.cache.page_tokens;
  const int known = p.pages[share * kMlaKnownPages + lane];
  for (MlaPieces pieces(p, share); pieces.more(); pieces.next()) {
    const MlaPiece& piece = pieces.piece;
    const MlaRows rows(piece, p.division, rank);
    MlaKeys keys_of(p, piece);
    MlaPages pages(batch, page_tokens, keys_of.now);
    if (pieces.number == 0) {
      pages.first = keys_of.first_key(piece.first_tile) / page_tokens;
      pages.page = known;
    }
    // The first keys come while the launch before ends, unless they are of this step.
    if (pieces.number == 0 && keys_of.first_key(piece.first_tile) + kMlaTileKeys >
                                  min(piece.view.start, keys_of.now.context - 1)) {
      wait_for_last_launch();
    }
    for (int t = piece.first_tile; t < piece.last_tile; ++t, ++tiles_done) {
      if (keys_of.begin(t)) pages = MlaPages(batch, page_tokens, keys_of.now);
      const std::uint32_t parity = static_cast<std::uint32_t>(tiles_done / 2 + 1) & 1U;
      for (int half = 0; half < 2; ++half) {
        const int stage = tiles_done % 2 * 2 + half;
        const int first_key = keys_of.first_key(t) + half * MlaTile::kStageKeys;
        const int keys = max(min(MlaTile::kStageKeys, pages.context - first_key), 0);
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
        wait_for_last_launch();
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

// A thread's place in the results of a warpgroup's products: rows `row` and row + 8, columns
// `column` and column + 1 of each 8.
struct MlaThread {
  __device__ MlaThread()
      : lane(static_cast<int>(threadIdx.x) % kWarp),
        row(static_cast<int>(threadIdx.x) % MlaTile::kGroupThreads / kWarp * 16 + lane / 4),
        column(lane % 4 * 2) {}
  int lane;
  int row;
  int column;
};

// scores [64, 64] = Q K^T over the keys of two stages, which lie behind one another.
__device__ inline void mla_score_keys(const MlaTile& tile, int first_stage, float (&scores)[32]) {
  using namespace hopper;
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < kMlaWidth / 16; ++k) {
    const auto offset = static_cast<std::uint32_t>(k / 4 * MlaTile::kAtomBytes + k % 4 * 32);
    wgmma_n64(scores, descriptor(tile.queries() + offset, 16, MlaTile::kGroupBytes),
              descriptor(tile.stage(first_stage) + offset, 16, MlaTile::kGroupBytes), k > 0);
  }
  wgmma_commit();
  wgmma_wait<0>();
  wgmma_results(scores);
}

// Keys from `keys` on in the key tile become zeros: what lies there may be NaN, which a weight of
// zero does not take away.
__device__ inline void mla_clear_keys(const MlaTile& tile, int first_stage, int keys) {
  constexpr int kChunks = MlaTile::kBlocks * 8;  // of 16 bytes in a key
  char* stage = tile.memory + MlaTile::kKeys + first_stage * MlaTile::kStageBytes;
  for (int i = static_cast<int>(threadIdx.x) % MlaTile::kGroupThreads;
       i < (kMlaTileKeys - keys) * kChunks; i += MlaTile::kGroupThreads) {
    const int key = keys + i / kChunks;
    const int chunk = i % kChunks;
    *reinterpret_cast<uint4*>(stage + key / 8 * MlaTile::kGroupBytes +
                              chunk / 8 * MlaTile::kAtomBytes + key % 8 * 128 + chunk % 8 * 16) =
        uint4{0, 0, 0, 0};
  }
}

// A thread's two rows under the online softmax.
struct MlaSoftmax {
  float highest[2] = {-INFINITY, -INFINITY};  // of the scores so far, unscaled
  float sum[2] = {0.0F, 0.0F};                // of the exponentials of the thread's own keys
  int limit[2];                               // keys that the row sees

  // The thread's rows are query vectors `vector` and vector + 8 of a unit.
  __device__ void look(const MlaKeys& keys, const MlaPiece& piece, const MlaDivision& d,
                       int vector) {
    limit[0] = keys.limit(piece, d, vector);
    limit[1] = keys.limit(piece, d, vector + 8);
  }
  // Scores become exponentials; keep: by what the sums before shrink.
  __device__ void step(float (&scores)[32], int first_key, float scale, float (&keep)[2]) {
    float now[2] = {highest[0], highest[1]};
    // Most tiles are seen by all.
    if (__any_sync(kAllLanes, first_key + kMlaTileKeys > min(limit[0], limit[1])) != 0) {
#pragma unroll
      for (int i = 0; i < 32; ++i) {
        if (first_key + i / 4 * 8 + i % 2 >= limit[i / 2 % 2]) scores[i] = -INFINITY;
      }
    }
    float high[4] = {now[0], now[0], now[1], now[1]};
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      float& one = high[i / 2 % 2 * 2 + i / 4 % 2];
      one = fmaxf(one, scores[i]);
    }
    now[0] = fmaxf(high[0], high[1]);
    now[1] = fmaxf(high[2], high[3]);
    float offset[2];
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      now[row] = fmaxf(now[row], __shfl_xor_sync(kAllLanes, now[row], 1));
      now[row] = fmaxf(now[row], __shfl_xor_sync(kAllLanes, now[row], 2));
      // A row that has seen nothing yet: every weight is 2^(-inf - 0).
      offset[row] = now[row] == -INFINITY ? 0.0F : now[row] * scale;
      keep[row] = exp2_fast(highest[row] * scale - offset[row]);
      highest[row] = now[row];
      sum[row] *= keep[row];
    }
    float added[2] = {0.0F, 0.0F};
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      scores[i] = exp2_fast(fmaf(scores[i], scale, -offset[i / 2 % 2]));
      (i / 4 % 2 == 0 ? sum : added)[i / 2 % 2] += scores[i];
    }
    sum[0] += added[0];
    sum[1] += added[1];
  }
  // The sums over all keys, after the last step.
  __device__ void add_up() {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      sum[row] += __shfl_xor_sync(kAllLanes, sum[row], 1);
      sum[row] += __shfl_xor_sync(kAllLanes, sum[row], 2);
    }
  }
};

// The weights of 32 keys into shared memory.
__device__ inline void mla_store_weights(const MlaTile& tile, const MlaThread& thread, int half,
                                         const float (&weights)[32]) {
  char* memory = tile.memory + MlaTile::kWeights + thread.row * 128 + thread.column * 2;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int j = half * 4 + i;
    const int chunk = j ^ (thread.row % 8);  // rows 8 apart swizzle alike
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      *reinterpret_cast<__nv_bfloat162*>(memory + row * 8 * 128 + chunk * 16) =
          __floats2bfloat162_rn(weights[4 * j + 2 * row], weights[4 * j + 2 * row + 1]);
    }
  }
}

// One warpgroup: scores and weights of all pieces, a tile ahead of the values.
__device__ inline void mla_score(const MlaTile& tile, const MlaAttentionParams& p, int share,
                                 int rank) {
  using namespace hopper;
  const MlaThread thread;
  const float scale = p.attention.geometry.softmax_scale * 1.44269504088896341F;
  int tiles_done = 0;
  for (MlaPieces pieces(p, share); pieces.more(); pieces.next()) {
    const MlaPiece& piece = pieces.piece;
    const MlaRows rows(piece, p.division, rank);
    MlaSoftmax softmax;
    MlaKeys keys_of(p, piece);
    softmax.look(keys_of, piece, p.division, rows.first + thread.row);
    barrier_wait(tile.queries_full(), static_cast<std::uint32_t>(pieces.number) & 1U);
    for (int t = piece.first_tile; t < piece.last_tile; ++t, ++tiles_done) {
      const int stage = tiles_done % 2 * 2;
      const std::uint32_t parity = static_cast<std::uint32_t>(tiles_done / 2) & 1U;
      const std::uint32_t free_parity = static_cast<std::uint32_t>(tiles_done + 1) & 1U;
      const bool last = t == piece.last_tile - 1;
      if (keys_of.begin(t)) softmax.look(keys_of, piece, p.division, rows.first + thread.row);
      const int first_key = keys_of.first_key(t);
      float scores[32];
      float keep[2];
      barrier_wait(tile.full(stage), parity);
      barrier_wait(tile.full(stage + 1), parity);
      mla_score_keys(tile, stage, scores);
      if (last && thread.lane == 0) barrier_arrive(tile.queries_empty());
      softmax.step(scores, first_key + thread.column, scale, keep);
      const int keys = keys_of.now.context - first_key;
      if (keys < kMlaTileKeys) mla_clear_keys(tile, stage, max(keys, 0));
      if (last) softmax.add_up();
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        barrier_wait(tile.weights_empty(half), free_parity);
        if (half == 0 && thread.column == 0) {
          tile.keep()[thread.row] = keep[0];
          tile.keep()[thread.row + 8] = keep[1];
          if (last) {
            tile.runs(pieces.number)[thread.row] = {softmax.highest[0] * scale, softmax.sum[0]};
            tile.runs(pieces.number)[thread.row + 8] = {softmax.highest[1] * scale, softmax.sum[1]};
          }
        }
        mla_store_weights(tile, thread, half, scores);
        fence_async_shared();
        __syncwarp();
        if (thread.lane == 0) barrier_arrive(tile.weights_full(half));
      }
    }
  }
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

// A thread's sums: 128 columns a part, each as a product of 128 columns leaves it.
struct MlaSums {
  float part[2][64];

  __device__ float& at(int i) { return part[i / 64][i % 64]; }
  __device__ float at(int i) const { return part[i / 64][i % 64]; }
  // Keeps reads behind what was waited for.
  __device__ void settle() {
    hopper::wgmma_results(part[0]);
    hopper::wgmma_results(part[1]);
  }
};

// sums += P V over 32 keys, for the warpgroup's 256 columns. The caller waits.
__device__ inline void mla_add_values(const MlaTile& tile, int stage, int half, int group,
                                      MlaSums& sums) {
  using namespace hopper;
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < MlaTile::kStageKeys / 16; ++k) {
    const std::uint32_t values =
        tile.stage(stage + half) +
        static_cast<std::uint32_t>(k * 2 * MlaTile::kGroupBytes + group * 4 * MlaTile::kAtomBytes);
    const std::uint64_t weights = descriptor(
        tile.weights() + static_cast<std::uint32_t>(half * 64 + k * 32), 16, MlaTile::kAtomBytes);
#pragma unroll
    for (int part = 0; part < 2; ++part) {
      wgmma_n128(sums.part[part], weights,
                 descriptor(values + static_cast<std::uint32_t>(part * 2 * MlaTile::kAtomBytes),
                            MlaTile::kAtomBytes, MlaTile::kGroupBytes),
                 true);
    }
  }
  wgmma_commit();
}

// Row `row` of the thread's two as bf16. The four lanes that hold a row exchange their pairs, so
// that each writes 8 columns of every 32: whole sectors.
__device__ inline void mla_store_row(const MlaThread& thread, int group,
                                     const MlaAttentionParams& p, const MlaRows& rows, int row,
                                     float factor, const MlaSums& sums) {
  const int quarter = thread.column / 2;
  const int r = thread.row + row * 8;
  auto* out = static_cast<__nv_bfloat16*>(p.attention.out) +
              static_cast<std::size_t>(rows.row + r) * kMlaLatent + group * 256 + quarter * 8;
#pragma unroll
  for (int j = 0; j < 32; j += 4) {
    std::uint32_t pairs[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      pairs[i] = mla_pair(sums.at(4 * (j + i) + 2 * row) * factor,
                          sums.at(4 * (j + i) + 2 * row + 1) * factor);
    }
    mla_transpose_quad(pairs, quarter);
    if (r < rows.count) {
      *reinterpret_cast<uint4*>(out + j * 8) = uint4{pairs[0], pairs[1], pairs[2], pairs[3]};
    }
  }
}

// The same in fp16 to half of a row of partial results, as MlaHalfParts has them. Returns what
// undoes their scale. A launch runs this once, so what counts is how little code it is.
__device__ inline float mla_store_partial(__half* out, const MlaThread& thread, int row,
                                          const MlaSums& sums) {
  float largest = 0.0F;
#pragma unroll
  for (int j = 0; j < 32; ++j) {
    largest = fmaxf(largest, fabsf(sums.at(4 * j + 2 * row)));
    largest = fmaxf(largest, fabsf(sums.at(4 * j + 2 * row + 1)));
  }
  largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 1));
  largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 2));
  const MlaHalfScale by(largest);
  if (out != nullptr) {
#pragma unroll
    for (int j = 0; j < 32; j += 4) {
      __half2 pairs[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        pairs[i] = __floats2half2_rn(sums.at(4 * (j + i) + 2 * row) * by.scale,
                                     sums.at(4 * (j + i) + 2 * row + 1) * by.scale);
      }
      *reinterpret_cast<uint4*>(out + j * 8 + thread.column * 4) =
          *reinterpret_cast<const uint4*>(pairs);
    }
  }
  return by.inverse;
}

// Writes a unit's result, or a piece's part of it.
__device__ inline void mla_store(const MlaTile& tile, const MlaThread& thread, int group,
                                 const MlaAttentionParams& p, const MlaPieces& pieces,
                                 const MlaRows& rows, int rank, const MlaSums& sums) {
  const MlaPiece& piece = pieces.piece;
  const auto partial =
      static_cast<std::size_t>(mla_partial_row(piece, p.division, piece.index, rank));
  // Warps without rows have nothing to write.
  if (thread.row / 16 * 16 >= rows.count) return;
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    const int r = thread.row + row * 8;
    const float2 run = tile.runs(pieces.number)[r];
    if (piece.count == 1) {
      mla_store_row(thread, group, p, rows, row, 1.0F / run.y, sums);
    } else {
      // A vector that sees none of the keys leaves nothing but that.
      const std::size_t at = partial + static_cast<std::size_t>(r);
      auto* out = static_cast<__half*>(p.partials.sums) + at * kMlaLatent + group * 256;
      const bool has_sums = r < rows.count && run.y != 0.0F;
      const float inverse = mla_store_partial(has_sums ? out : nullptr, thread, row, sums);
      if (r >= rows.count || thread.column != 0) continue;
      p.partials.scales[2 * at + static_cast<std::size_t>(group)] = inverse;
      if (group == 0) p.partials.runs[at] = run;
    }
  }
}

// Warpgroup `group` of two: sums of all pieces. A CTA without a row tile in a unit computes along.
template <int kGroup>
__device__ void mla_values(const MlaTile& tile, const MlaAttentionParams& p, MlaPieces& pieces,
                           int group, int rank) {
  using namespace hopper;
  const MlaThread thread;
  int tiles_done = 0;
  MlaSums sums;
  for (; pieces.more(); pieces.next()) {
    const MlaPiece& piece = pieces.piece;
    const MlaRows rows(piece, p.division, rank);
#pragma unroll
    for (int i = 0; i < 128; ++i) sums.at(i) = 0.0F;
    for (int t = piece.first_tile; t < piece.last_tile; ++t, ++tiles_done) {
      const int stage = tiles_done % 2 * 2;
      const std::uint32_t parity = static_cast<std::uint32_t>(tiles_done / 2) & 1U;
      const std::uint32_t weights_parity = static_cast<std::uint32_t>(tiles_done) & 1U;
      barrier_wait(tile.full(stage), parity);
      barrier_wait(tile.full(stage + 1), parity);
      barrier_wait(tile.weights_full(0), weights_parity);
      const float keep[2] = {tile.keep()[thread.row], tile.keep()[thread.row + 8]};
      if (__any_sync(kAllLanes, keep[0] != 1.0F || keep[1] != 1.0F)) {
#pragma unroll
        for (int i = 0; i < 128; ++i) sums.at(i) *= keep[i / 2 % 2];
      }
      sums.settle();
      mla_add_values(tile, stage, 0, group, sums);
      barrier_wait(tile.weights_full(1), weights_parity);
      mla_add_values(tile, stage, 1, group, sums);
      wgmma_wait<1>();
      if (thread.lane == 0) barrier_arrive(tile.weights_empty(0));
      mla_release<kGroup>(tile, stage, thread.lane);
      wgmma_wait<0>();
      sums.settle();
      if (thread.lane == 0) barrier_arrive(tile.weights_empty(1));
      mla_release<kGroup>(tile, stage + 1, thread.lane);
    }
    mla_store(tile, thread, group, p, pieces, rows, rank, sums);
    if (piece.count > 1 && rows.count > 0) {
      mla_arrive(mla_counter(p, piece, rank), threadIdx.x % MlaTile::kValueThreads == 0);
    }
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
      barrier_init(tile.empty(s), MlaTile::kValueWarps * kGroup);
    }
    barrier_init(tile.queries_full(), 1);
    barrier_init(tile.queries_empty(), MlaTile::kScoreWarps);
    for (int half = 0; half < 2; ++half) {
      barrier_init(tile.weights_full(half), MlaTile::kScoreWarps);
      barrier_init(tile.weights_empty(half), MlaTile::kValueWarps);
    }
    fence_barrier_init();
    prefetch_tensor_map(&query_map);
    prefetch_tensor_map(&key_map);
  }
  __syncthreads();
  if constexpr (kGroup > 1) cluster_barrier();
  let_next_launch_begin();
  // What the launch before writes are queries and the keys of this step.
  if (!p.known) wait_for_last_launch();
  const int share = static_cast<int>(blockIdx.x) / kGroup;
  const int rank = static_cast<int>(blockIdx.x) % kGroup;
  // Two warpgroups of values first: barriers and merging count from thread 0.
  const int role = static_cast<int>(threadIdx.x) / MlaTile::kGroupThreads;
  if (role < 2) {
    take_registers<MlaTile::kValueRegisters>();
    MlaPieces pieces(p, share);
    wait_for_last_launch();  // it may still read what is written here
    mla_values<kGroup>(tile, p, pieces, role, rank);
    mla_merge<MlaHalfParts>(tile, p, pieces, share, rank);
  } else if (role == 2) {
    give_registers<MlaTile::kScoreRegisters>();
    mla_score(tile, p, share, rank);
  } else {
    give_registers<MlaTile::kCopyRegisters>();
    if (static_cast<int>(threadIdx.x) % MlaTile::kGroupThreads < kWarp) {
      mla_copy<kGroup>(tile, p, &query_map, &key_map, share, rank);
    }
  }
  // Nobody leaves while another may still write to its memory.
  __syncwarp();
  if constexpr (kGroup > 1) cluster_barrier();
#endif
}

}  // namespace latentd::cuda
