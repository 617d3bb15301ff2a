// Sorts the entries of a step by expert and cuts each expert's into tiles, on the device.
#pragma once

#include "engine/backend/cuda/expert_params.h"
#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/dependent_launch.cuh"

namespace latentd::cuda {

constexpr int kSortThreads = 512;

__device__ inline int parts_of(int entries, int part_tokens) {
  return (entries + part_tokens - 1) / part_tokens;
}

// Grid: experts, then shared experts, which have all tokens as entries. Each block finds its
// expert's place by counting all entries: small against a launch for it.
// Shared memory: [num_experts] ints.
__global__ void __launch_bounds__(kSortThreads) sort_entries_kernel(ExpertStep p) {
  extern __shared__ int counts[];
  await_previous_launch();
  let_next_launch_begin();
  __shared__ int shared[kBlockShared];
  const int expert = static_cast<int>(blockIdx.x);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  constexpr int kWarps = kSortThreads / kWarp;
  for (int e = threadIdx.x; e < p.num_experts; e += kSortThreads) counts[e] = 0;
  __syncthreads();
  // Each warp has one stretch of the entries, so that an expert's entries keep their order.
  const int stretch = (p.num_entries + kSortThreads - 1) / kSortThreads * kWarp;
  const int begin = min(warp * stretch, p.num_entries);
  const int end = min(begin + stretch, p.num_entries);
  int mine = 0;
  for (int i = begin + lane; i < end; i += kWarp) {
    const int id = p.expert_ids[i];
    atomicAdd(&counts[id], 1);
    mine += id == expert ? 1 : 0;
  }
  mine = warp_reduce(mine, Sum{});
  __shared__ int warp_counts[kWarps];
  if (lane == 0) warp_counts[warp] = mine;
  __syncthreads();

  int first = 0;
  int first_part = 0;
  for (int e = threadIdx.x; e < min(expert, p.num_experts); e += kSortThreads) {
    first += counts[e];
    first_part += parts_of(counts[e], p.part_tokens);
  }
  first = block_reduce(first, Sum{}, shared);
  first_part = block_reduce(first_part, Sum{}, shared);
  const int count = expert < p.num_experts ? counts[expert] : p.num_tokens;
  const int parts = parts_of(count, p.part_tokens);
  const int shared_parts = p.shared_experts * parts_of(p.num_tokens, p.part_tokens);
  if (expert < p.num_experts) {
    first_part += shared_parts;
  } else {
    first = p.num_entries + (expert - p.num_experts) * p.num_tokens;
    first_part = (expert - p.num_experts) * parts;
  }
  // All of nearly one size: a tile of few entries takes more than its share of time.
  const int each = parts > 0 ? parts_of(count, parts) : 0;
  for (int i = threadIdx.x; i < parts; i += kSortThreads) {
    p.parts[first_part + i] = {p.experts[expert], expert, first + i * each,
                               min(each, count - i * each)};
  }
  if (threadIdx.x == 0 && expert == p.num_experts - 1) *p.num_parts = first_part + parts;
  if (expert >= p.num_experts) return;

  int next = first;
  for (int w = 0; w < warp; ++w) next += warp_counts[w];
  for (int i = begin; i < end; i += kWarp) {
    const bool is_mine = i + lane < end && p.expert_ids[i + lane] == expert;
    const unsigned all = __ballot_sync(kAllLanes, is_mine);
    if (is_mine) p.order[next + __popc(all & ((1U << lane) - 1U))] = i + lane;
    next += __popc(all);
  }
}

}  // namespace latentd::cuda
