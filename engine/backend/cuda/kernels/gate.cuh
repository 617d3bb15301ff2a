// The front of a MoE layer for few tokens in one launch: norm, router, route and the sort by expert
// (sm_90: a cluster of blocks a token).
//
// The eight blocks of a token share its experts' rows of the router, each normalising the token for
// itself; the first one gathers the logits through the cluster's shared memory and routes. The last
// token to be routed sorts the entries of all.
#pragma once

#include <cstddef>

#include "engine/backend/cuda/expert_params.h"
#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/dependent_launch.cuh"
#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/cuda/kernels/expert_sort.cuh"
#include "engine/backend/cuda/kernels/route.cuh"
#include "engine/backend/cuda/kernels/tensor_core.cuh"

namespace latentd::cuda {

constexpr int kGateBlocks = 8;  // of a token
constexpr int kGateThreads = 256;
constexpr int kGateWarps = kGateThreads / kWarp;
constexpr int kGateAhead = 8;  // pieces of the router that a lane loads before the norm is known

// Bytes: the normed token, logits, route_token's memory.
constexpr std::size_t gate_shared_bytes(int hidden_size, int num_experts) {
  return (static_cast<std::size_t>(hidden_size) + static_cast<std::size_t>(num_experts) +
          static_cast<std::size_t>(route_shared_floats(num_experts))) *
         sizeof(float);
}

__device__ inline void arrive_at_cluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ inline void wait_for_cluster() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// Stores into the shared memory of the cluster's first block, at this block's address `to`.
__device__ inline void store_in_first_block(float* to, float value) {
  std::uint32_t remote;
  asm volatile("mapa.shared::cluster.u32 %0, %1, 0;" : "=r"(remote) : "r"(shared_address(to)));
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(remote), "f"(value) : "memory");
}

// The token's normed values as bf16 rounds them, in `x`. `weight` is the thread's first piece of
// the norm's weights.
__device__ inline void normalise(const GateStep& p, const uint4* hidden, uint4 weight, bool store,
                                 float* x, float* shared) {
  const int pieces = p.experts.hidden_size / 8;
  float squares = 0.0F;
  uint4 first = {};
  for (int c = threadIdx.x; c < pieces; c += kGateThreads) {
    const uint4 packed = hidden[c];
    if (c < kGateThreads) first = packed;
    float values[8];
    unpack_eight(packed, values);
#pragma unroll
    for (const float value : values) squares += value * value;
  }
  squares = block_reduce(squares, Sum{}, shared);
  const float scale =
      1.0F / sqrtf(squares / static_cast<float>(p.experts.hidden_size) + p.norm_eps);
  for (int c = threadIdx.x; c < pieces; c += kGateThreads) {
    const bool known = c < kGateThreads;
    float values[8];
    float weights[8];
    unpack_eight(known ? first : hidden[c], values);
    unpack_eight(known ? weight : static_cast<const uint4*>(p.norm)[c], weights);
#pragma unroll
    for (int i = 0; i < 8; ++i) values[i] = values[i] * scale * weights[i];
    const uint4 packed = pack_eight(values);
    unpack_eight(packed, values);
#pragma unroll
    for (int i = 0; i < 8; ++i) x[8 * c + i] = values[i];
    if (store) {
      static_cast<uint4*>(p.normed)[static_cast<std::size_t>(blockIdx.y) * pieces + c] = packed;
    }
  }
}

__device__ inline float dot_eight(const uint4& packed, const float* x) {
  float values[8];
  unpack_eight(packed, values);
  float sum = 0.0F;
#pragma unroll
  for (int i = 0; i < 8; ++i) sum = fmaf(values[i], x[i], sum);
  return sum;
}

__device__ inline int warp_inclusive_sum(int value) {
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const int before = __shfl_up_sync(kAllLanes, value, offset);
    if (static_cast<int>(threadIdx.x) % kWarp >= offset) value += before;
  }
  return value;
}

// Sorts all entries by expert and cuts them into parts. Counters are the block's shared memory,
// [2 * experts] ints. Entries come from other blocks: they are read past L1.
__device__ inline void sort_all(const ExpertStep& p, int* counts) {
  int* next = counts + p.num_experts;
  for (int e = threadIdx.x; e < p.num_experts; e += kGateThreads) counts[e] = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < p.num_entries; i += kGateThreads) {
    atomicAdd(&counts[__ldcg(p.expert_ids + i)], 1);
  }
  __syncthreads();
  if (threadIdx.x < kWarp) {
    const int lane = static_cast<int>(threadIdx.x);
    int entries = 0;
    int parts = p.shared_experts * parts_of(p.num_tokens, p.part_tokens);
    const auto cut = [&](int expert, int first, int count, int first_part) {
      for (int i = 0; i < parts_of(count, p.part_tokens); ++i) {
        p.parts[first_part + i] = {p.experts[expert], expert, first + i * p.part_tokens,
                                   min(p.part_tokens, count - i * p.part_tokens)};
      }
    };
    if (lane < p.shared_experts) {
      cut(p.num_experts + lane, p.num_entries + lane * p.num_tokens, p.num_tokens,
          lane * parts_of(p.num_tokens, p.part_tokens));
    }
    for (int begin = 0; begin < p.num_experts; begin += kWarp) {
      const int e = begin + lane;
      const int count = e < p.num_experts ? counts[e] : 0;
      const int mine = parts_of(count, p.part_tokens);
      const int entries_end = entries + warp_inclusive_sum(count);
      const int parts_end = parts + warp_inclusive_sum(mine);
      if (e < p.num_experts) next[e] = entries_end - count;
      cut(e, entries_end - count, count, parts_end - mine);
      entries = __shfl_sync(kAllLanes, entries_end, kWarp - 1);
      parts = __shfl_sync(kAllLanes, parts_end, kWarp - 1);
    }
    if (lane == 0) *p.num_parts = parts;
  }
  __syncthreads();
  // Places within an expert fall as threads come; no value depends on them.
  for (int i = threadIdx.x; i < p.num_entries; i += kGateThreads) {
    p.order[atomicAdd(&next[__ldcg(p.expert_ids + i)], 1)] = i;
  }
}

// The same for a single token, by one warp.
__device__ inline void sort_one(const ExpertStep& p) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int s = lane; s < p.shared_experts; s += kWarp) {
    p.parts[s] = {p.experts[p.num_experts + s], p.num_experts + s, p.num_entries + s, 1};
  }
  for (int i = lane; i < p.num_entries; i += kWarp) {
    p.order[i] = i;
    p.parts[p.shared_experts + i] = {p.experts[p.expert_ids[i]], p.expert_ids[i], i, 1};
  }
  if (lane == 0) *p.num_parts = p.shared_experts + p.num_entries;
}

// The compiler refuses clusters for architectures that have none, where the kernel is empty.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define LATENTD_GATE_CLUSTER __cluster_dims__(kGateBlocks, 1, 1)
#else
#define LATENTD_GATE_CLUSTER
#endif

// Grid: (kGateBlocks, tokens), clusters of kGateBlocks.
__global__ void LATENTD_GATE_CLUSTER __launch_bounds__(kGateThreads)
    gate_kernel(const __grid_constant__ GateStep p) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ float gate_memory[];
  __shared__ float shared[kBlockShared];
  __shared__ bool last;
  const ExpertStep& s = p.experts;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::size_t token = blockIdx.y;
  const int pieces = s.hidden_size / 8;
  float* x = gate_memory;
  float* logits = x + s.hidden_size;
  const bool first_block = blockIdx.x == 0;

  let_next_launch_begin();
  arrive_at_cluster();  // this block has begun: its shared memory may be written
  const auto row = [&](int e) {
    return static_cast<const uint4*>(p.router) + static_cast<std::size_t>(e) * pieces;
  };
  int e = static_cast<int>(blockIdx.x) * kGateWarps + warp;
  uint4 ahead[kGateAhead] = {};
#pragma unroll
  for (int j = 0; j < kGateAhead; ++j) {
    if (e < s.num_experts && j * kWarp + lane < pieces) ahead[j] = row(e)[j * kWarp + lane];
  }
  uint4 weight = {};
  if (threadIdx.x < pieces) weight = static_cast<const uint4*>(p.norm)[threadIdx.x];
  // Weights are nobody's output: they are loaded while the launch before this one ends.
  await_previous_launch();
  normalise(p, static_cast<const uint4*>(p.hidden) + token * pieces, weight, first_block, x,
            shared);
  __syncthreads();
  wait_for_cluster();
  for (bool loaded = true; e < s.num_experts; e += kGateBlocks * kGateWarps, loaded = false) {
    float sum = 0.0F;
#pragma unroll
    for (int j = 0; j < kGateAhead; ++j) {
      const int piece = j * kWarp + lane;
      if (piece < pieces) sum += dot_eight(loaded ? ahead[j] : row(e)[piece], x + 8 * piece);
    }
    for (int piece = kGateAhead * kWarp + lane; piece < pieces; piece += kWarp) {
      sum += dot_eight(row(e)[piece], x + 8 * piece);
    }
    sum = warp_reduce(sum, Sum{});
    if (lane == 0) store_in_first_block(&logits[e], sum);
  }
  arrive_at_cluster();
  wait_for_cluster();
  if (!first_block) return;

  if (warp == 0) {
    const std::size_t first = token * s.experts_per_token;
    route_token(p.routing, logits, p.correction_bias, logits + s.num_experts, p.expert_ids + first,
                p.expert_weights + first);
    __threadfence();
    __syncwarp();
    if (s.num_tokens == 1) {
      sort_one(s);
    } else if (lane == 0) {
      last = atomicAdd(p.arrived, 1) == s.num_tokens - 1;
    }
  }
  if (s.num_tokens == 1) return;
  __syncthreads();
  if (!last) return;
  __threadfence();
  if (threadIdx.x == 0) *p.arrived = 0;  // for the next launch
  sort_all(s, reinterpret_cast<int*>(gate_memory));
#else
  (void)p;
  __trap();
#endif
}
#undef LATENTD_GATE_CLUSTER

}  // namespace latentd::cuda
