// Drawing a token from a row of processed logits: temperature, top_k, top_p, min_p, one draw.
//
// The rules are the CPU's (engine/backend/cpu/token_draw.h). Weights are exp((logit - highest) /
// temperature), the heaviest being 1. They are summed as whole numbers of 2^-45, so that a sum has
// one value in whatever order threads add; tokens below half of that are never drawn (a
// double-precision draw reaches them once in 10^13).
//
// Instead of sorting, a radix selection over the bits of the weights (which order as the weights
// do, none being negative) finds the last token that top_k or top_p keeps.
//
// Contract: every thread of the block calls.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/op_params.h"
#include "engine/backend/sampling_random.h"

namespace latentd::cuda {

constexpr int kSampleThreads = 1024;
constexpr int kDigits = 256;
constexpr double kMassOne = 0x1p45;

using Mass = unsigned long long;

__device__ inline Mass mass_of(float weight) {
  return static_cast<Mass>(static_cast<double>(weight) * kMassOne + 0.5);
}

struct WeightRow {
  const float* logits;
  int vocab;
  float highest;
  float inverse_temperature;  // finite: a difference of 0 times infinity would be NaN

  __device__ float operator[](int t) const {
    return expf((logits[t] - highest) * inverse_temperature);
  }
};

// Keeps the weights whose bits exceed `bits`, and of those that equal it the first `equals` by id.
struct Threshold {
  unsigned bits = 0;
  int equals = 0x7fffffff;

  __device__ bool stricter_than(const Threshold& other) const {
    return bits != other.bits ? bits > other.bits : equals < other.equals;
  }
};

struct DrawStorage {
  int counts[kDigits];
  Mass masses[kDigits];
  Mass sums[kBlockShared];
  int ranks[kBlockShared];
  unsigned bits;
  int count_before;
  Mass mass_before;
  TokenId token;
};

// What a selection aims at: the heaviest tokens up to `count`, or those that hold `mass`.
struct Aim {
  int count;  // 0: by mass
  Mass mass;
};

// Chooses the digit in which the aim is reached, walking from the heaviest. Returns false when the
// row ends before it: everything is kept.
__device__ inline bool choose_digit(DrawStorage& s, const Aim& aim, int shift) {
  int count = s.count_before;
  Mass mass = s.mass_before;
  for (int digit = kDigits - 1; digit >= 0; --digit) {
    const bool reached = aim.count > 0 ? count + s.counts[digit] >= aim.count
                                       : s.counts[digit] > 0 && mass + s.masses[digit] >= aim.mass;
    if (reached) {
      s.bits |= static_cast<unsigned>(digit) << shift;
      s.count_before = count;
      s.mass_before = mass;
      return true;
    }
    count += s.counts[digit];
    mass += s.masses[digit];
  }
  return false;
}

// The threshold that `aim` sets, and the mass of what it keeps.
__device__ inline Threshold select_weights(const WeightRow& weights, const Aim& aim, Mass total,
                                           DrawStorage& s, Mass& kept) {
  __shared__ bool found;
  if (threadIdx.x == 0) {
    s.bits = 0;
    s.count_before = 0;
    s.mass_before = 0;
  }
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int i = threadIdx.x; i < kDigits; i += kSampleThreads) {
      s.counts[i] = 0;
      s.masses[i] = 0;
    }
    __syncthreads();
    const unsigned prefix = s.bits;
    for (int t = threadIdx.x; t < weights.vocab; t += kSampleThreads) {
      const float weight = weights[t];
      const unsigned bits = __float_as_uint(weight);
      const Mass mass = mass_of(weight);
      const bool same_prefix = shift == 24 || (bits ^ prefix) >> (shift + 8) == 0;
      if (mass == 0 || !same_prefix) continue;
      const unsigned digit = bits >> shift & (kDigits - 1);
      atomicAdd(&s.counts[digit], 1);
      atomicAdd(&s.masses[digit], mass);
    }
    __syncthreads();
    if (threadIdx.x == 0) found = choose_digit(s, aim, shift);
    __syncthreads();
    if (!found) break;
  }
  Threshold threshold;
  kept = total;
  if (found) {
    const Mass each = mass_of(__uint_as_float(s.bits));
    threshold.bits = s.bits;
    threshold.equals = aim.count > 0
                           ? aim.count - s.count_before
                           : static_cast<int>((aim.mass - s.mass_before + each - 1) / each);
    kept = s.mass_before + each * static_cast<Mass>(threshold.equals);
  }
  __syncthreads();
  return threshold;
}

// The part of the vocabulary that one warp walks, in ascending order over the warps: 32 tokens at a
// time, one a lane.
struct Segment {
  __device__ explicit Segment(int vocab) {
    constexpr int kWarps = kSampleThreads / kWarp;
    const int tiles = (vocab + kSampleThreads - 1) / kSampleThreads;
    const int length = tiles * kWarp;
    static_assert(kWarps * kWarp == kSampleThreads);
    first = min(vocab, static_cast<int>(threadIdx.x) / kWarp * length);
    end = min(vocab, first + length);
  }
  int first;
  int end;
};

constexpr int kTilesAhead = 4;  // loads in flight of a lane

// Calls body(token, mass) for the tiles of the segment, on all lanes of its warp: each lane has a
// token and its mass, which is 0 when it may not be drawn. body returns, for all lanes alike,
// whether to go on. `rank` counts the tokens before the segment whose weight equals the threshold.
template <typename Body>
__device__ void for_each_tile(const WeightRow& weights, const Segment& segment,
                              const Threshold& threshold, float min_p, int rank, const Body& body) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const unsigned lanes_before = (1U << lane) - 1;
  for (int base = segment.first; base < segment.end; base += kTilesAhead * kWarp) {
    float ahead[kTilesAhead];
#pragma unroll
    for (int i = 0; i < kTilesAhead; ++i) {
      const int t = base + i * kWarp + lane;
      ahead[i] = t < segment.end ? weights[t] : -1.0F;
    }
#pragma unroll
    for (int i = 0; i < kTilesAhead; ++i) {
      const float weight = ahead[i];
      const unsigned bits = __float_as_uint(weight);
      const bool exists = weight >= 0.0F;
      const unsigned equals = __ballot_sync(kAllLanes, exists && bits == threshold.bits);
      const bool beyond =
          bits == threshold.bits && rank + __popc(equals & lanes_before) >= threshold.equals;
      rank += __popc(equals);
      const bool kept = exists && bits >= threshold.bits && weight >= min_p && !beyond;
      if (!body(base + i * kWarp + lane, kept ? mass_of(weight) : 0)) return;
    }
  }
}

// Tokens before the warp's segment whose weight equals the threshold.
__device__ inline int rank_of_segment(const WeightRow& weights, const Segment& segment,
                                      const Threshold& threshold, DrawStorage& s) {
  if (threshold.bits == 0) return 0;  // nothing is limited: the same for all threads
  int equals = 0;
  for (int t = segment.first + static_cast<int>(threadIdx.x) % kWarp; t < segment.end; t += kWarp) {
    equals += __float_as_uint(weights[t]) == threshold.bits ? 1 : 0;
  }
  int all = 0;
  const int before = block_exclusive_sum(equals, s.ranks, all);
  return __shfl_sync(kAllLanes, before, 0);
}

__device__ inline Threshold limits(const WeightRow& weights, const SampleRow& row, DrawStorage& s) {
  const bool top_k = row.top_k > 0 && row.top_k < weights.vocab;
  const bool top_p = row.top_p < 1.0F;
  Threshold threshold;
  if (!top_k && !top_p) return threshold;
  Mass kept = 0;
  for (int t = threadIdx.x; t < weights.vocab; t += kSampleThreads) kept += mass_of(weights[t]);
  kept = block_reduce(kept, Sum{}, s.sums);
  if (top_k) threshold = select_weights(weights, {row.top_k, 0}, kept, s, kept);
  if (top_p) {
    const double part = ceil(static_cast<double>(row.top_p) * static_cast<double>(kept));
    const Mass mass = part < 1.0 ? 1 : static_cast<Mass>(part);
    Mass unused = 0;
    const Threshold nucleus = select_weights(weights, {0, mass}, kept, s, unused);
    if (nucleus.stricter_than(threshold)) threshold = nucleus;
  }
  return threshold;
}

// REQUIRES: row.temperature > 0, weights.highest is finite and the highest of its logits.
__device__ inline TokenId draw_token(const WeightRow& weights, const SampleRow& row,
                                     DrawStorage& s) {
  const Threshold threshold = limits(weights, row, s);
  // The heaviest weighs 1, so that something is left whatever min_p says.
  const float min_p = fminf(row.min_p, 1.0F);
  const Segment segment(weights.vocab);
  const int rank = rank_of_segment(weights, segment, threshold, s);
  Mass mine = 0;
  for_each_tile(weights, segment, threshold, min_p, rank, [&](int /*token*/, Mass mass) {
    mine += mass;
    return true;
  });
  Mass total = 0;
  Mass sum = __shfl_sync(kAllLanes, block_exclusive_sum(mine, s.sums, total), 0);
  const Mass of_warp = warp_reduce(mine, Sum{});
  const auto target =
      static_cast<Mass>(sampling_uniform(row.seed, row.position) * static_cast<double>(total));
  // Exactly one warp owns the target; rounding up to the total would leave it to nobody.
  const Mass aim = target < total ? target : total - 1;
  if (sum <= aim && aim < sum + of_warp) {
    for_each_tile(weights, segment, threshold, min_p, rank, [&](int token, Mass mass) {
      const Mass of_tile = warp_reduce(mass, Sum{});
      if (sum + of_tile <= aim) {
        sum += of_tile;
        return true;
      }
      const Mass up_to_me = sum + warp_inclusive_sum(mass);
      const unsigned passed = __ballot_sync(kAllLanes, up_to_me > aim);
      if (static_cast<int>(threadIdx.x) % kWarp == __ffs(static_cast<int>(passed)) - 1) {
        s.token = token;
      }
      return false;
    });
  }
  __syncthreads();
  return s.token;
}

}  // namespace latentd::cuda
