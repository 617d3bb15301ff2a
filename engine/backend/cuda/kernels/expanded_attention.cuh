// Causal attention over one pass of expanded keys and values, with warp-level products (sm_80 and
// later).
//
// A block computes 128 queries of one head, a warp 16 of them, over blocks of 64 keys in ascending
// order, as an online softmax in fp32 (arXiv:2205.14135, arXiv:2307.08691). The next keys and
// values are copied while the current ones are multiplied. What is left unfinished at the end of
// the pass goes to the state and is taken up from there in the next one.
#pragma once

#include <cuda_bf16.h>

#include <cstddef>

#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/cuda/kernels/expanded_softmax.cuh"
#include "engine/backend/cuda/kernels/warp_mma.cuh"

namespace latentd::cuda {

template <int kNope, int kRope, int kV>
struct ExpandedShape {
  static constexpr int kQk = kNope + kRope;
  static constexpr int kKeys = 64;
  // Rows are an odd number of 16-byte vectors apart, so that the eight rows of a fragment lie in
  // different banks.
  static constexpr int kQkStride = kQk + 8;
  static constexpr int kVStride = kV + 8;
  static constexpr int kStage = kKeys * (kQkStride + kVStride);
  static constexpr int kStages = 2;
  static constexpr std::size_t kSharedBytes =
      (kExpandedQueries * kQkStride + kStages * kStage) * sizeof(__nv_bfloat16);
  // Queries stay in registers unless sums take them.
  static constexpr bool kKeepQueries = kQk + kV <= 320;
};

template <typename Shape, int kNope, int kRope, int kV>
__device__ void copy_keys(const ExpandedArgs& args, const ExpandedTask& task, int block,
                          __nv_bfloat16* keys) {
  constexpr int kVectors = (Shape::kQk + kV) / 8;
  __nv_bfloat16* values = keys + Shape::kKeys * Shape::kQkStride;
  const std::size_t kv_width = kNope + kV;
  const int row0 = task.offset + block * Shape::kKeys;
  for (int i = static_cast<int>(threadIdx.x); i < Shape::kKeys * kVectors; i += kStateThreads) {
    const int row = i / kVectors;
    const int at = i % kVectors * 8;
    const auto from = static_cast<std::size_t>(row0 + row);
    const __nv_bfloat16* kv = args.kv + (from * args.num_heads + task.head) * kv_width;
    if (at < kNope) {
      copy_async_16(keys + row * Shape::kQkStride + at, kv + at);
    } else if (at < Shape::kQk) {
      copy_async_16(keys + row * Shape::kQkStride + at,
                    args.latents + from * (args.kv_lora + kRope) + args.kv_lora + (at - kNope));
    } else {
      copy_async_16(values + row * Shape::kVStride + (at - Shape::kQk), kv + (at - kRope));
    }
  }
}

template <int kNope, int kRope, int kV>
__global__ void __launch_bounds__(kStateThreads, 1)
    expanded_attention_kernel(const __grid_constant__ ExpandedArgs args) {
  using Shape = ExpandedShape<kNope, kRope, kV>;
  constexpr int kQk = Shape::kQk;
  constexpr int kSteps = kQk / 16;
  constexpr int kKeyFragments = Shape::kKeys / 8;
  extern __shared__ uint4 shared[];
  auto* queries = reinterpret_cast<__nv_bfloat16*>(shared);
  __nv_bfloat16* stages = queries + kExpandedQueries * Shape::kQkStride;

  const ExpandedTask task = expanded_task(args, static_cast<int>(blockIdx.x));
  if (task.num_keys <= 0) return;
  for (int i = static_cast<int>(threadIdx.x); i < kExpandedQueries * (kQk / 8);
       i += kStateThreads) {
    const int row = i / (kQk / 8);
    const int at = i % (kQk / 8) * 8;
    // Queries that do not exist repeat the last one and are not written.
    const auto token = static_cast<std::size_t>(task.first_token + min(row, task.queries - 1));
    copy_async_16(queries + row * Shape::kQkStride + at,
                  args.q + (token * args.num_heads + task.head) * kQk + at);
  }
  copy_keys<Shape, kNope, kRope, kV>(args, task, 0, stages);
  commit_copies();

  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int first_query = warp * 16 + lane / 4;
  // Lane's row of a 16x16 tile for load_matrices: of queries and values, and of keys.
  const int tile_row = lane % 16;
  const int tile_column = lane / 16 * 8;
  const int key_row = lane % 8 + lane / 16 * 8;
  const int key_column = lane / 8 % 2 * 8;
  const __nv_bfloat16* own_queries =
      queries + (warp * 16 + tile_row) * Shape::kQkStride + tile_column;

  ExpandedSums<kV> sums;
  begin_sums(args, task, static_cast<int>(threadIdx.x), sums);
  std::uint32_t kept[Shape::kKeepQueries ? kSteps : 1][4];
  const int blocks = (task.num_keys + Shape::kKeys - 1) / Shape::kKeys;
  for (int block = 0; block < blocks; ++block) {
    const __nv_bfloat16* keys = stages + block % 2 * Shape::kStage;
    const __nv_bfloat16* values = keys + Shape::kKeys * Shape::kQkStride;
    if (block + 1 < blocks) {
      copy_keys<Shape, kNope, kRope, kV>(args, task, block + 1,
                                         stages + (block + 1) % 2 * Shape::kStage);
    }
    commit_copies();
    wait_copies<1>();
    __syncthreads();
    if constexpr (Shape::kKeepQueries) {
      if (block == 0) {
#pragma unroll
        for (int k = 0; k < kSteps; ++k) load_matrices(kept[k], own_queries + k * 16);
      }
    }

    float scores[kKeyFragments][4] = {};
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      if constexpr (!Shape::kKeepQueries) load_matrices(kept[0], own_queries + k * 16);
      const auto& a = kept[Shape::kKeepQueries ? k : 0];
#pragma unroll
      for (int n = 0; n < kKeyFragments; n += 2) {
        std::uint32_t b[4];
        load_matrices(b, keys + (n * 8 + key_row) * Shape::kQkStride + k * 16 + key_column);
        multiply_add(scores[n], a, b[0], b[1]);
        multiply_add(scores[n + 1], a, b[2], b[3]);
      }
    }
    const int first_key = task.first_key + block * Shape::kKeys;
    const bool masked = first_key + Shape::kKeys - 1 > task.first_position + warp * 16;
    float keep[2];
    weigh_scores<kKeyFragments, kV>(scores, task.first_position + first_query, first_key, masked,
                                    args.scale, sums, keep);
    scale_sums<kV>(sums, keep);
#pragma unroll
    for (int k = 0; k < kKeyFragments / 2; ++k) {
      const std::uint32_t a[4] = {pack_pair(scores[2 * k][0], scores[2 * k][1]),
                                  pack_pair(scores[2 * k][2], scores[2 * k][3]),
                                  pack_pair(scores[2 * k + 1][0], scores[2 * k + 1][1]),
                                  pack_pair(scores[2 * k + 1][2], scores[2 * k + 1][3])};
#pragma unroll
      for (int n = 0; n < kV / 8; n += 2) {
        std::uint32_t b[4];
        load_matrices_transposed(
            b, values + (k * 16 + tile_row) * Shape::kVStride + n * 8 + tile_column);
        multiply_add(sums.o[n], a, b[0], b[1]);
        multiply_add(sums.o[n + 1], a, b[2], b[3]);
      }
    }
    __syncthreads();
  }
  if (task.ends) {
    write_out<kV>(args, task, first_query, sums);
  } else {
    keep_sums<kV>(args, task, static_cast<int>(threadIdx.x), sums);
  }
}

}  // namespace latentd::cuda
