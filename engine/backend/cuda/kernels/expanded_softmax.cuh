// What both kernels of expanded attention share: the tile of queries that a block computes, and the
// online softmax over fragments of scores.
//
// Contract: device code. 256 threads compute 128 queries, a warp 16 of them; scores, sums and
// weights lie in registers as the products of m16n8k16 and wgmma leave them.
#pragma once

#include <cuda_bf16.h>

#include <cstddef>

#include "engine/backend/cuda/expanded_policy.h"
#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/cuda/kernels/warp_mma.cuh"

namespace latentd::cuda {

struct ExpandedArgs {
  ExpandedPass pass;
  const __nv_bfloat16* q;        // [T, H, nope + rope]
  const __nv_bfloat16* kv;       // [pass keys, H, nope + v]
  const __nv_bfloat16* latents;  // [pass keys, kv_lora + rope]
  float* state;                  // [tiles, H, state_floats]
  __nv_bfloat16* out;            // [T, H, v]
  int* next_task;                // zero before the launch
  int num_heads;
  int kv_lora;
  float scale;  // of scores, times log2(e)
};

// One tile of queries of a segment.
struct ExpandedTask {
  int head;
  int tile;            // of the row
  int first_token;     // of the step, of the tile's first query
  int queries;         // that exist
  int first_position;  // of the first query
  int first_key;       // position of the segment's first key
  int num_keys;        // of the segment that some query sees; not positive: nothing to do
  int offset;          // row of scratch of the first key
  bool begins;         // no keys came before
  bool ends;           // no keys come after
};

__device__ inline ExpandedTask expanded_task(const ExpandedArgs& args, int work_index) {
  const ExpandedPass& pass = args.pass;
  const ExpandedWork work = work_of_block(work_index, pass.num_tiles, args.num_heads);
  int s = pass.num_segments - 1;
  while (s > 0 && pass.segments[s].first_tile > work.tile) --s;
  const ExpandedSegment& segment = pass.segments[s];
  ExpandedTask task;
  task.head = work.head;
  task.tile = work.tile - segment.first_tile;
  const int first_query = task.tile * kExpandedQueries;
  task.first_token = segment.first_token + first_query;
  task.queries = min(kExpandedQueries, segment.count - first_query);
  task.first_position = segment.start + first_query;
  task.first_key = segment.first_key;
  const int end = task.first_position + task.queries;
  task.num_keys = min(end, segment.end_key()) - segment.first_key;
  task.offset = segment.offset;
  task.begins = segment.first_key == 0;
  task.ends = end <= segment.end_key();
  return task;
}

// The 16 queries of a warp: lane holds rows lane / 4 and lane / 4 + 8 of every fragment.
template <int kV>
struct ExpandedSums {
  float o[kV / 8][4];
  float highest[2];
  float sum[2];  // of this lane's columns
};

template <int kV>
__device__ void begin_sums(const ExpandedArgs& args, const ExpandedTask& task, int thread,
                           ExpandedSums<kV>& sums) {
  if (task.begins) {
#pragma unroll
    for (int n = 0; n < kV / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) sums.o[n][e] = 0.0F;
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      sums.highest[r] = -INFINITY;
      sums.sum[r] = 0.0F;
    }
    return;
  }
  const float* state =
      args.state +
      static_cast<std::size_t>(task.tile * args.num_heads + task.head) * state_floats(kV) + thread;
#pragma unroll
  for (int n = 0; n < kV / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) sums.o[n][e] = state[(n * 4 + e) * kStateThreads];
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    sums.highest[r] = state[(kV / 2 + r) * kStateThreads];
    sums.sum[r] = state[(kV / 2 + 2 + r) * kStateThreads];
  }
}

template <int kV>
__device__ void keep_sums(const ExpandedArgs& args, const ExpandedTask& task, int thread,
                          const ExpandedSums<kV>& sums) {
  float* state =
      args.state +
      static_cast<std::size_t>(task.tile * args.num_heads + task.head) * state_floats(kV) + thread;
#pragma unroll
  for (int n = 0; n < kV / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) state[(n * 4 + e) * kStateThreads] = sums.o[n][e];
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    state[(kV / 2 + r) * kStateThreads] = sums.highest[r];
    state[(kV / 2 + 2 + r) * kStateThreads] = sums.sum[r];
  }
}

// 2^x; 0 below the normal numbers.
__device__ inline float exp2_approximate(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}
__device__ inline float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffU, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffU, x, 2));
}
__device__ inline float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffU, x, 1);
  return x + __shfl_xor_sync(0xffffffffU, x, 2);
}

// Scores become weights. `first_row` is the position of the lane's first query, `first_key` that of
// the block's first key; earlier sums have to be multiplied by `keep`.
template <int kKeyFragments, int kV>
__device__ void weigh_scores(float (&scores)[kKeyFragments][4], int first_row, int first_key,
                             bool masked, float scale, ExpandedSums<kV>& sums, float (&keep)[2]) {
  if (masked) {
    const int column = first_key + static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
    for (int n = 0; n < kKeyFragments; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        if (column + n * 8 + e % 2 > first_row + e / 2 * 8) scores[n][e] = -INFINITY;
      }
    }
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float highest = sums.highest[r];
#pragma unroll
    for (int n = 0; n < kKeyFragments; ++n) {
      highest = fmaxf(highest, fmaxf(scores[n][2 * r], scores[n][2 * r + 1]));
    }
    highest = quad_max(highest);
    const float shift = highest * scale;
    keep[r] = exp2_approximate(sums.highest[r] * scale - shift);
    sums.highest[r] = highest;
    float sum = 0.0F;
#pragma unroll
    for (int n = 0; n < kKeyFragments; ++n) {
#pragma unroll
      for (int e = 2 * r; e < 2 * r + 2; ++e) {
        scores[n][e] = exp2_approximate(fmaf(scores[n][e], scale, -shift));
        sum += scores[n][e];
      }
    }
    sums.sum[r] = sums.sum[r] * keep[r] + sum;
  }
}

template <int kV>
__device__ void scale_sums(ExpandedSums<kV>& sums, const float (&keep)[2]) {
#pragma unroll
  for (int n = 0; n < kV / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) sums.o[n][e] *= keep[e / 2];
  }
}

template <int kV>
__device__ void write_out(const ExpandedArgs& args, const ExpandedTask& task, int first_query,
                          const ExpandedSums<kV>& sums) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float inverse = 1.0F / quad_sum(sums.sum[r]);
    const int query = first_query + r * 8;
    if (query >= task.queries) continue;
    __nv_bfloat16* out =
        args.out +
        (static_cast<std::size_t>(task.first_token + query) * args.num_heads + task.head) * kV +
        threadIdx.x % 4 * 2;
#pragma unroll
    for (int n = 0; n < kV / 8; ++n) {
      *reinterpret_cast<std::uint32_t*>(out + n * 8) =
          pack_pair(sums.o[n][2 * r] * inverse, sums.o[n][2 * r + 1] * inverse);
    }
  }
}

}  // namespace latentd::cuda
