// route: the gates of DeepSeek-V2 and V3 (arXiv:2405.04434 section 2.2, arXiv:2412.19437 section
// 2.1.2), in fp32, one warp a token.
#pragma once

#include <cstddef>

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/op_params.h"

namespace latentd::cuda {

// The highest value and its index, ties to the lower index; index -1: none.
struct Best {
  float value = -INFINITY;
  int index = -1;
};

struct BestOf {
  __device__ Best operator()(const Best& a, const Best& b) const {
    if (b.index < 0) return a;
    if (a.index < 0) return b;
    if (a.value > b.value) return a;
    if (b.value > a.value) return b;
    return a.index < b.index ? a : b;
  }
};

__device__ inline Best warp_best(Best best) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    best = BestOf{}(best, {__shfl_xor_sync(kAllLanes, best.value, offset),
                           __shfl_xor_sync(kAllLanes, best.index, offset)});
  }
  return best;
}

// Takes the best of those not taken yet, whatever their values; known to all lanes.
__device__ inline int take_best(const float* values, bool* taken, int n) {
  Best best;
  for (int i = threadIdx.x; i < n; i += kWarp) {
    if (!taken[i]) best = BestOf{}(best, {values[i], i});
  }
  best = warp_best(best);
  if (threadIdx.x == 0) taken[best.index] = true;
  __syncwarp();
  return best.index;
}

__device__ inline void score_experts(const RoutingParams& r, const float* logits, float* scores) {
  const int n = r.num_experts;
  if (r.sigmoid) {
    for (int e = threadIdx.x; e < n; e += kWarp) scores[e] = 1.0F / (1.0F + expf(-logits[e]));
    return;
  }
  float highest = -INFINITY;
  for (int e = threadIdx.x; e < n; e += kWarp) highest = fmaxf(highest, logits[e]);
  highest = warp_reduce(highest, Max{});
  float sum = 0.0F;
  for (int e = threadIdx.x; e < n; e += kWarp) {
    scores[e] = expf(logits[e] - highest);
    sum += scores[e];
  }
  sum = warp_reduce(sum, Sum{});
  for (int e = threadIdx.x; e < n; e += kWarp) scores[e] /= sum;
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
  for (int g = threadIdx.x; g < r.num_groups; g += kWarp) {
    group_scores[g] = group_score(choice + g * size, size, r.group_score_top2);
    taken[g] = false;
  }
  __syncwarp();
  for (int i = 0; i < r.groups_per_token; ++i) take_best(group_scores, taken, r.num_groups);
  for (int e = threadIdx.x; e < r.num_experts; e += kWarp) {
    if (!taken[e / size]) choice[e] = -INFINITY;
  }
  __syncwarp();
}

// Floats of shared memory: scores, choice, group scores, and `taken` as bytes.
constexpr int route_shared_floats(int num_experts) { return 4 * num_experts; }

// Grid: tokens; one warp a block.
__global__ void __launch_bounds__(kWarp) route_kernel(RouteParams p) {
  extern __shared__ float route_memory[];
  const RoutingParams& r = p.routing;
  const int n = r.num_experts;
  float* scores = route_memory;
  float* choice = scores + n;
  float* group_scores = choice + n;
  auto* taken = reinterpret_cast<bool*>(group_scores + n);
  const std::size_t t = blockIdx.x;

  score_experts(r, p.logits + t * n, scores);
  const auto* bias = static_cast<const float*>(p.correction_bias.data);
  for (int e = threadIdx.x; e < n; e += kWarp) {
    choice[e] = bias != nullptr ? scores[e] + bias[e] : scores[e];
  }
  __syncwarp();
  if (r.num_groups > 1) limit_groups(r, choice, group_scores, taken);
  for (int e = threadIdx.x; e < n; e += kWarp) taken[e] = false;
  __syncwarp();
  for (int i = 0; i < r.experts_per_token; ++i) take_best(choice, taken, n);

  // Ascending ids, and their weights summed in that order.
  if (threadIdx.x != 0) return;
  std::int32_t* ids = p.expert_ids + t * r.experts_per_token;
  float* weights = p.expert_weights + t * r.experts_per_token;
  float sum = 0.0F;
  int count = 0;
  for (int e = 0; e < n; ++e) {
    if (!taken[e]) continue;
    ids[count] = e;
    weights[count++] = scores[e];
    sum += scores[e];
  }
  const float denominator = r.normalize ? sum + 1e-20F : 1.0F;
  for (int i = 0; i < count; ++i) weights[i] = weights[i] / denominator * r.weight_scale;
}

}  // namespace latentd::cuda
