// Absorbed attention at 512 + 64 in bf16 on sm_90a: tensor cores, the copy engine, one CTA an SM.
//
// A warp copies, a warpgroup scores, two add values. Keys arrive in stages of 32 tokens: groups of
// 8 tokens, each nine atoms of [8 tokens, 64 columns] under the 128-byte swizzle. Read along the
// columns they are the keys of Q K^T, read along the tokens the values of P V, so nothing is
// transposed. For a key tile of two stages the scorer computes S = Q K^T [64 rows, 64 keys], keeps
// the rows' sums, and hands P = exp2(S - reference) over in shared memory, half by half. A row's
// reference moves only where scores exceed it by far; then older sums shrink. Each of the others
// adds P V into its 256 of the 512 columns, which it holds in registers from the first to the last
// tile of a piece. The scorer is a tile ahead, so its exponentials hide behind the products. Over
// an fp8 cache further warps widen keys where they arrive (mla_cached_keys.cuh).
//
// A piece that is all of its unit is divided by its sum and written as bf16. Others leave partial
// sums, and after its last piece a CTA merges its part of the rows of every unit that it shared, in
// the order of the keys: all CTAs are resident, and none waits before its own pieces are done.
#pragma once

#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/cuda/kernels/hopper.cuh"
#include "engine/backend/cuda/kernels/mla_cached_keys.cuh"
#include "engine/backend/cuda/kernels/mla_copy.cuh"
#include "engine/backend/cuda/kernels/mla_merge.cuh"
#include "engine/backend/cuda/kernels/mla_softmax.cuh"
#include "engine/backend/cuda/kernels/mla_tile.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

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

// Of a value that all lanes share: in a uniform register. Descriptors are computed from it where
// they are used; without this all of them are computed in advance, for which there are not enough
// registers.
__device__ inline std::uint32_t mla_uniform(std::uint32_t value) {
  asm volatile("" : "+r"(value));
  return __shfl_sync(kAllLanes, value, 0);
}

// scores [64, 64] = Q K^T over the keys of two stages, which lie behind one another: a half for
// each.
__device__ inline void mla_score_keys(const MlaTile& tile, const MlaStage& first,
                                      const MlaStage& second, float (&scores)[2][16]) {
  using namespace hopper;
  constexpr std::uint64_t kHigh = descriptor_high(MlaTile::kGroupBytes);
  const std::uint32_t queries = descriptor_low(tile.queries(), 16);
  const std::uint32_t keys = mla_uniform(descriptor_low(tile.stage(first.index), 16));
  barrier_wait(tile.full(first.index), first.parity);
  barrier_wait(tile.full(second.index), second.parity);
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < kMlaWidth / 16; ++k) {
    const auto offset = static_cast<std::uint32_t>(k / 4 * MlaTile::kAtomBytes + k % 4 * 32) >> 4;
    wgmma_n64(scores[0], scores[1], kHigh | (queries + offset), kHigh | (keys + offset), k > 0);
  }
  wgmma_commit();
  wgmma_wait<0>();
  wgmma_results(scores[0]);
  wgmma_results(scores[1]);
}

// Keys from `keys` on in the key tile become zeros: what lies there may be NaN, which a weight of
// zero does not take away.
__device__ inline void mla_clear_keys(const MlaTile& tile, int first_stage, int keys) {
  constexpr int kChunks = MlaTile::kBlocks * 8;  // of 16 bytes in a key
  char* stage = tile.memory + MlaTile::kKeys + first_stage * MlaTile::kStageBytes;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x) % MlaTile::kGroupThreads;
       i < (kMlaTileKeys - keys) * kChunks; i += MlaTile::kGroupThreads) {
    const int key = keys + i / kChunks;
    const int chunk = i % kChunks;
    *reinterpret_cast<uint4*>(stage + key / 8 * MlaTile::kGroupBytes +
                              chunk / 8 * MlaTile::kAtomBytes + key % 8 * 128 + chunk % 8 * 16) =
        uint4{0, 0, 0, 0};
  }
  __syncwarp();
}

// The weights of 32 keys into shared memory, 16 rows a warp: lane l says where row l % 16 and its 8
// keys l / 16 begin, and so for the 16 keys behind.
__device__ inline void mla_store_weights(const MlaTile& tile, const MlaThread& thread, int half,
                                         const float (&weights)[16]) {
  const int row = thread.row - thread.lane / 4 + thread.lane % 16;
  const std::uint32_t row_at = tile.weights() + static_cast<std::uint32_t>(row * 128);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int chunk = (half * 4 + i * 2 + thread.lane / 16) ^ (row % 8);
    const float* own = weights + i * 8;
    hopper::store_matrices(row_at + static_cast<std::uint32_t>(chunk * 16),
                           pack_pair(own[0], own[1]), pack_pair(own[2], own[3]),
                           pack_pair(own[4], own[5]), pack_pair(own[6], own[7]));
  }
}

// Hands the weights of a tile over, half by half. kPlain: no older sums shrink, and the piece has
// further tiles; otherwise `runs` is where the last tile says how the rows' scores ran, or null.
// The exponentials of the second half are held back until the first is given, since the compiler
// would have them delay it.
template <bool kPlain>
__device__ void mla_give_weights(const MlaTile& tile, const MlaThread& thread, MlaSoftmax& softmax,
                                 float (&scores)[2][16], float scale, std::uint32_t free_parity,
                                 bool shrinks = false, const float* keep = nullptr,
                                 float2* runs = nullptr) {
  using namespace hopper;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const bool ends = !kPlain && half == 1 && runs != nullptr;
    if (half == 0) {
      softmax.step(scores[half]);
      barrier_wait(tile.weights_empty(half), free_parity);
      if (thread.lane == 0) tile.moved()[thread.row / 16] = shrinks ? 1 : 0;
    } else {
      softmax.relate_half(scores[half], scale,
                          barrier_wait_for_zero(tile.weights_empty(half), free_parity));
      softmax.step(scores[half]);
    }
    if (ends) {
      softmax.add(scores[half]);
      softmax.add_up();
    }
    if (!kPlain && thread.column == 0) {
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        if (half == 0 && shrinks) tile.keep()[thread.row + row * 8] = keep[row];
        if (ends) runs[thread.row + row * 8] = softmax.run(row);
      }
    }
    mla_store_weights(tile, thread, half, scores[half]);
    mla_give_half(half);
    if (!ends) softmax.add(scores[half]);
  }
}

// The same of a warp whose rows see none of the keys.
__device__ inline void mla_give_nothing(const MlaTile& tile, const MlaThread& thread,
                                        MlaSoftmax& softmax, std::uint32_t free_parity,
                                        float2* runs) {
  using namespace hopper;
  constexpr float kNothing[16] = {};
  if (runs != nullptr) {
    softmax.add_up();
    if (thread.column == 0) {
#pragma unroll
      for (int row = 0; row < 2; ++row) runs[thread.row + row * 8] = softmax.run(row);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    barrier_wait(tile.weights_empty(half), free_parity);
    if (half == 0 && thread.lane == 0) tile.moved()[thread.row / 16] = 0;
    mla_store_weights(tile, thread, half, kNothing);
    mla_give_half(half);
  }
}

// One warpgroup: scores and weights of all pieces, a tile ahead of the values. Its warps without
// rows only multiply. The values wait for every instruction here, and to branch over what is rare
// costs as much as twenty, so the common tile has a path of its own.
__device__ inline void mla_score(const MlaTile& tile, const MlaAttentionParams& p, int share,
                                 int rank) {
  using namespace hopper;
  const MlaThread thread;
  const float scale = p.attention.geometry.softmax_scale * 1.44269504088896341F;
  int tiles_done = 0;
  for (MlaPieces pieces(p, share); pieces.more(); pieces.next()) {
    const MlaPiece& piece = pieces.piece;
    const MlaRows rows(piece, p.division, rank);
    const bool has_rows = rows.any_of_warp(thread.row);
    MlaSoftmax softmax(piece, p.division, rows.first + thread.row);
    MlaKeys keys_of(p, piece);
    softmax.look(keys_of);
    // Tiles before it are seen whole by all of the warp's rows, and others follow them.
    int plain_until = keys_of.plain_until(piece, softmax.seen);
    barrier_wait(tile.queries_full(), static_cast<std::uint32_t>(pieces.number) & 1U);
    for (int t = piece.first_tile; t < piece.last_tile; ++t, ++tiles_done) {
      const MlaStage first(tiles_done * 2);
      const MlaStage second(tiles_done * 2 + 1);
      const std::uint32_t free_parity = static_cast<std::uint32_t>(tiles_done + 1) & 1U;
      // Here, where the values are still busy with the tile before.
      if (keys_of.begin(t)) {
        softmax.look(keys_of);
        plain_until = keys_of.plain_until(piece, softmax.seen);
      }
      float scores[2][16];
      mla_score_keys(tile, first, second, scores);
      float2 highest;
      if (t < plain_until) {
        highest = softmax.relate(scores, scale);
        if (!softmax.exceeded(highest)) {
          mla_give_weights<true>(tile, thread, softmax, scores, scale, free_parity);
          continue;
        }
      } else {
        const int first_key = keys_of.first_key(t);
        const int keys = keys_of.now.context - first_key;
        if (t == piece.last_tile - 1 && thread.lane == 0) barrier_arrive(tile.queries_empty());
        if (keys < kMlaTileKeys) mla_clear_keys(tile, first.index, max(keys, 0));
        if (!has_rows) {
          for (int half = 0; half < 2; ++half) {
            barrier_wait(tile.weights_empty(half), free_parity);
            mla_give_half(half);
          }
          continue;
        }
        if (softmax.blind) {
          mla_give_nothing(tile, thread, softmax, free_parity,
                           t == piece.last_tile - 1 ? tile.runs(pieces.number) : nullptr);
          continue;
        }
        softmax.mask(scores, first_key, thread.column);
        highest = softmax.relate(scores, scale);
      }
      float keep[2];
      const bool moves = softmax.exceeded(highest);
      if (moves) softmax.move(scores, highest, keep);
      // Rows that had no reference have no sums that would shrink.
      const bool shrinks = moves && __any_sync(kAllLanes, keep[0] != 1.0F || keep[1] != 1.0F) != 0;
      mla_give_weights<false>(tile, thread, softmax, scores, scale, free_parity, shrinks, keep,
                              t == piece.last_tile - 1 ? tile.runs(pieces.number) : nullptr);
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

// The keys of a stage as values: the warpgroup's 256 columns.
__device__ inline std::uint32_t mla_describe_values(const MlaTile& tile, int stage, int group) {
  return mla_uniform(hopper::descriptor_low(
      tile.stage(stage) + static_cast<std::uint32_t>(group * 4 * MlaTile::kAtomBytes),
      MlaTile::kAtomBytes));
}

// sums += P V over the 32 keys that `values` describes. The caller waits.
__device__ inline void mla_add_values(const MlaTile& tile, std::uint32_t values, int half,
                                      MlaSums& sums) {
  using namespace hopper;
  constexpr std::uint64_t kHighWeights = descriptor_high(MlaTile::kAtomBytes);
  constexpr std::uint64_t kHighValues = descriptor_high(MlaTile::kGroupBytes);
  const std::uint32_t weights =
      descriptor_low(tile.weights() + static_cast<std::uint32_t>(half * 64), 16);
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < MlaTile::kStageKeys / 16; ++k) {
#pragma unroll
    for (int part = 0; part < 2; ++part) {
      const auto offset = static_cast<std::uint32_t>(k * 2 * MlaTile::kGroupBytes +
                                                     part * 2 * MlaTile::kAtomBytes) >>
                          4;
      wgmma_n128(sums.part[part], kHighWeights | (weights + static_cast<std::uint32_t>(k * 2)),
                 kHighValues | (values + offset), true);
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
      pairs[i] = pack_pair(sums.at(4 * (j + i) + 2 * row) * factor,
                           sums.at(4 * (j + i) + 2 * row + 1) * factor);
    }
    mla_transpose_quad(pairs, quarter);
    if (r < rows.count) {
      *reinterpret_cast<uint4*>(out + j * 8) = uint4{pairs[0], pairs[1], pairs[2], pairs[3]};
    }
  }
}

// The same in fp16 to half of a row of partial results, as MlaHalfParts has them, marked with
// `launch`; if `writes`. Returns what undoes their scale. A launch runs this once, so what counts
// is how little code it is.
__device__ inline float mla_store_partial(uint4* out, const MlaThread& thread, int row, bool writes,
                                          std::uint32_t launch, const MlaSums& sums) {
  float largest = 0.0F;
#pragma unroll
  for (int j = 0; j < 32; ++j) {
    largest = fmaxf(largest, fabsf(sums.at(4 * j + 2 * row)));
    largest = fmaxf(largest, fabsf(sums.at(4 * j + 2 * row + 1)));
  }
  largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 1));
  largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 2));
  const MlaHalfScale by(largest);
#pragma unroll
  for (int j = 0; j < 32; j += 4) {
    __half2 pairs[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      pairs[i] = __floats2half2_rn(sums.at(4 * (j + i) + 2 * row) * by.scale,
                                   sums.at(4 * (j + i) + 2 * row + 1) * by.scale);
    }
    auto words = *reinterpret_cast<const uint4*>(pairs);
    words.x = MlaHalfParts::marked(words.x, launch);
    if (writes) mla_leave(out + j + thread.column / 2, words);
  }
  return by.inverse;
}

// Of a vector that sees none of the keys.
__device__ inline void mla_store_nothing(uint4* out, const MlaThread& thread,
                                         std::uint32_t launch) {
#pragma unroll 1
  for (int j = 0; j < 32; j += 4) {
    mla_leave(out + j + thread.column / 2, uint4{MlaHalfParts::marked(0, launch), 0, 0, 0});
  }
}

// Writes a unit's result, or a piece's part of it.
__device__ inline void mla_store(const MlaTile& tile, const MlaThread& thread, int group,
                                 const MlaAttentionParams& p, const MlaPieces& pieces,
                                 const MlaRows& rows, int rank, std::uint32_t launch,
                                 const MlaSums& sums) {
  const MlaPiece& piece = pieces.piece;
  const auto partial =
      static_cast<std::size_t>(mla_partial_row(piece, p.division, piece.index, rank));
  // Warps without rows have nothing to write.
  if (!rows.any_of_warp(thread.row)) return;
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    const int r = thread.row + row * 8;
    const float2 run = tile.runs(pieces.number)[r];
    if (piece.count == 1) {
      mla_store_row(thread, group, p, rows, row, 1.0F / run.y, sums);
    } else {
      const std::size_t at = partial + static_cast<std::size_t>(r);
      const bool writes = r < rows.count;
      uint4* out = MlaHalfParts::words(p.partials, at, group);
      const float inverse =
          mla_store_partial(out, thread, row, writes && run.y != 0.0F, launch, sums);
      if (writes && run.y == 0.0F) mla_store_nothing(out, thread, launch);
      if (!writes || thread.column != 0) continue;
      mla_leave(
          MlaHalfParts::run(p.partials, at, group),
          uint4{__float_as_uint(inverse), __float_as_uint(run.x), __float_as_uint(run.y), launch});
    }
  }
}

// Warpgroup `group` of two: sums of all pieces. A CTA without a row tile in a unit computes along.
template <int kGroup>
__device__ void mla_values(const MlaTile& tile, const MlaAttentionParams& p, MlaPieces& pieces,
                           int group, int rank, std::uint32_t launch) {
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
      const MlaStage first(tiles_done * 2);
      const MlaStage second(tiles_done * 2 + 1);
      barrier_wait(tile.full(first.index), first.parity);
      barrier_wait(tile.full(second.index), second.parity);
      const std::uint32_t values[2] = {mla_describe_values(tile, first.index, group),
                                       mla_describe_values(tile, second.index, group)};
      mla_take_half(0);
      if (rows.any_of_warp(thread.row) && tile.moved()[thread.row / 16] != 0) {
        const float keep[2] = {tile.keep()[thread.row], tile.keep()[thread.row + 8]};
#pragma unroll
        for (int i = 0; i < 128; ++i) sums.at(i) *= keep[i / 2 % 2];
      }
      sums.settle();
      mla_add_values(tile, values[0], 0, sums);
      mla_take_half(1);
      mla_add_values(tile, values[1], 1, sums);
      wgmma_wait<1>();
      barrier_arrive_warp(tile.weights_empty(0), thread.lane);
      mla_release<kGroup>(tile, first.index, thread.lane);
      wgmma_wait<0>();
      sums.settle();
      barrier_arrive_warp(tile.weights_empty(1), thread.lane);
      mla_release<kGroup>(tile, second.index, thread.lane);
    }
    mla_store(tile, thread, group, p, pieces, rows, rank, launch, sums);
    if (launch == 0 && piece.count > 1 && rows.count > 0) {
      mla_arrive(mla_counter(p, piece, rank), threadIdx.x % MlaTile::kValueThreads == 0);
    }
  }
}

// Grid: shares clusters of kGroup CTAs, all resident.
template <typename Keys, int kGroup>
__global__ void __launch_bounds__(Keys::kThreads, 1)
    mla_attention_kernel(const __grid_constant__ CUtensorMap query_map,
                         const __grid_constant__ CUtensorMap key_map, const MlaAttentionParams p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using namespace hopper;
  extern __shared__ __align__(1024) char memory[];
  const MlaTile tile{memory, shared_address(memory)};
  if (threadIdx.x == 0) {
    if (tile.address % MlaTile::kAtomBytes != 0) __trap();
    for (int s = 0; s < MlaTile::kStages; ++s) {
      barrier_init(tile.full(s), Keys::kArrivals);
      for (int g = 0; Keys::kWidened && g < MlaTile::kStageGroups; ++g) {
        barrier_init(tile.copied(s, g), 1);
      }
      barrier_init(tile.empty(s), MlaTile::kValueWarps * kGroup);
    }
    barrier_init(tile.queries_full(), 1);
    barrier_init(tile.queries_empty(), MlaTile::kScoreWarps);
    for (int half = 0; half < 2; ++half) {
      barrier_init(tile.weights_empty(half), MlaTile::kValueWarps * kWarpArrivals);
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
    take_registers<Keys::kValueRegisters>();
    MlaPieces pieces(p, share);
    wait_for_last_launch();  // it may still read what is written here
    const std::uint32_t launch = p.partials.launches[blockIdx.x];
    mla_values<kGroup>(tile, p, pieces, role, rank, launch);
    mla_merge(tile, p, pieces, share, rank, launch);
  } else if (role == 2) {
    give_registers<Keys::kScoreRegisters>();
    mla_score(tile, p, share, rank);
  } else {
    give_registers<Keys::kCopyRegisters>();
    const int warp = (static_cast<int>(threadIdx.x) - 3 * MlaTile::kGroupThreads) / kWarp;
    if (warp == 0) {
      mla_copy<Keys, kGroup>(tile, p, &query_map, &key_map, share, rank);
    } else if constexpr (Keys::kWidened) {
      mla_widen_keys(tile, p, share, warp - 1);
    }
  }
  // Nobody leaves while another may still write to its memory.
  __syncwarp();
  if constexpr (kGroup > 1) cluster_barrier();
#endif
}

}  // namespace latentd::cuda
