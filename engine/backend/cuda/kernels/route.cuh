// route: the gates of DeepSeek-V2 and V3 (arXiv:2405.04434 section 2.2, arXiv:2412.19437 section
// 2.1.2), in fp32, one warp a token.
#pragma once

#include <cstddef>

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/op_params.h"

namespace latentd::cuda {

__device__ inline int lane_of_warp() { return static_cast<int>(threadIdx.x) % kWarp; }

// Orders floats as unsigned numbers above zero; -0 is 0.
__device__ inline unsigned order_of(float value) {
  const unsigned bits = __float_as_uint(value + 0.0F);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

// Marks the `count` best of n values as taken, ties to the lower index; by one warp. Each lane
// knows the best of its own, so that a round is two reductions.
__device__ inline void take_best(const float* values, bool* taken, int n, int count) {
  const int lane = lane_of_warp();
  unsigned best = 0;
  int index = n;
  const auto find = [&] {
    best = 0;
    index = n;
    for (int i = lane; i < n; i += kWarp) {
      const unsigned order = order_of(values[i]);
      if (taken[i] || order <= best) continue;
      best = order;
      index = i;
    }
  };
  find();
  for (int round = 0; round < count; ++round) {
    const unsigned highest = __reduce_max_sync(kAllLanes, best);
    const int chosen = __reduce_min_sync(kAllLanes, best == highest ? index : n);
    if (index != chosen) continue;
    taken[chosen] = true;
    find();
  }
  __syncwarp();
}

__device__ inline void score_experts(const RoutingParams& r, const float* logits, float* scores) {
  const int n = r.num_experts;
  if (r.sigmoid) {
    for (int e = lane_of_warp(); e < n; e += kWarp) scores[e] = 1.0F / (1.0F + expf(-logits[e]));
    return;
  }
  float highest = -INFINITY;
  for (int e = lane_of_warp(); e < n; e += kWarp) highest = fmaxf(highest, logits[e]);
  highest = warp_reduce(highest, Max{});
  float sum = 0.0F;
  for (int e = lane_of_warp(); e < n; e += kWarp) {
    scores[e] = expf(logits[e] - highest);
    sum += scores[e];
  }
  sum = warp_reduce(sum, Sum{});
  for (int e = lane_of_warp(); e < n; e += kWarp) scores[e] /= sum;
}

__device__ inline float group_score(const float* choice, int size, bool top2) {
  float best = -INFINITY;
  float second = -INFINITY;
  for (int e = 0; e < size; ++e) {
    if (choice[e] > best) {
      second = best;
      best = choice[e];
    } else if (choice[e] > second) {
      second = choice[e];
    }
  }
  return top2 && size > 1 ? best + second : best;
}

// Excludes the experts of all but the best groups from the choice.
__device__ inline void limit_groups(const RoutingParams& r, float* choice, float* group_scores,
                                    bool* taken) {
  const int size = r.num_experts / r.num_groups;
  for (int g = lane_of_warp(); g < r.num_groups; g += kWarp) {
    group_scores[g] = group_score(choice + g * size, size, r.group_score_top2);
    taken[g] = false;
  }
  __syncwarp();
  take_best(group_scores, taken, r.num_groups, r.groups_per_token);
  for (int e = lane_of_warp(); e < r.num_experts; e += kWarp) {
    if (!taken[e / size]) choice[e] = -INFINITY;
  }
  __syncwarp();
}

// Floats of shared memory: scores, choice, group scores, and `taken` as bytes.
constexpr int route_shared_floats(int num_experts) { return 4 * num_experts; }

// One token, by one warp: ids ascending, and their weights. `memory` is shared.
__device__ inline void route_token(const RoutingParams& r, const float* logits, const float* bias,
                                   float* memory, std::int32_t* ids, float* weights) {
  const int n = r.num_experts;
  const int lane = lane_of_warp();
  float* scores = memory;
  float* choice = scores + n;
  float* group_scores = choice + n;
  auto* taken = reinterpret_cast<bool*>(group_scores + n);

  score_experts(r, logits, scores);
  for (int e = lane; e < n; e += kWarp) {
    choice[e] = bias != nullptr ? scores[e] + bias[e] : scores[e];
  }
  __syncwarp();
  if (r.num_groups > 1) limit_groups(r, choice, group_scores, taken);
  for (int e = lane; e < n; e += kWarp) taken[e] = false;
  __syncwarp();
  take_best(choice, taken, n, r.experts_per_token);

  float* chosen = choice;  // scores in the order of ids
  int count = 0;
  for (int first = 0; first < n; first += kWarp) {
    const int e = first + lane;
    const bool mine = e < n && taken[e];
    const unsigned all = __ballot_sync(kAllLanes, mine);
    if (mine) {
      const int place = count + __popc(all & ((1U << lane) - 1U));
      ids[place] = e;
      chosen[place] = scores[e];
    }
    count += __popc(all);
  }
  __syncwarp();
  float sum = 0.0F;
  for (int i = 0; i < count; ++i) sum += chosen[i];
  const float denominator = r.normalize ? sum + 1e-20F : 1.0F;
  for (int i = lane; i < count; i += kWarp) {
    weights[i] = chosen[i] / denominator * r.weight_scale;
  }
}

// Grid: tokens; one warp a block.
__global__ void __launch_bounds__(kWarp) route_kernel(RouteParams p) {
  extern __shared__ float route_memory[];
  const std::size_t t = blockIdx.x;
  const std::size_t first = t * p.routing.experts_per_token;
  route_token(p.routing, p.logits + t * p.routing.num_experts,
              static_cast<const float*>(p.correction_bias.data), route_memory, p.expert_ids + first,
              p.expert_weights + first);
}

}  // namespace latentd::cuda
