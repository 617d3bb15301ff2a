// sample: rows of logits to tokens, one block a row.
#pragma once

#include <cfloat>
#include <cstddef>
#include <cstdint>

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/sample_draw.cuh"
#include "engine/backend/op_params.h"

namespace latentd::cuda {

struct RowRange {
  float highest;
  bool finite;  // no NaN and no infinity
  bool nan_or_plus_infinity;
};

__device__ inline RowRange row_range(const float* x, int n, float* shared) {
  float highest = -INFINITY;
  float bad = 0.0F;  // 1: -infinity seen, 2: NaN or +infinity seen
  for (int i = threadIdx.x; i < n; i += kSampleThreads) {
    const float value = x[i];
    highest = fmaxf(highest, value);
    if (isnan(value) || value == INFINITY) {
      bad = 2.0F;
    } else if (value == -INFINITY) {
      bad = fmaxf(bad, 1.0F);
    }
  }
  highest = block_reduce(highest, Max{}, shared);
  bad = block_reduce(bad, Max{}, shared);
  return {highest, bad == 0.0F, bad == 2.0F};
}

// The token with the highest value among those that come after (`value`, `token`) in the order of
// falling values and, among equals, rising ids; -1 when there is none.
struct Ranked {
  float value = -INFINITY;
  TokenId token = -1;

  __device__ bool before(const Ranked& other) const {
    return value != other.value ? value > other.value : token < other.token;
  }
};

struct FirstRanked {
  __device__ Ranked operator()(const Ranked& a, const Ranked& b) const {
    if (a.token < 0) return b;
    if (b.token < 0) return a;
    return a.before(b) ? a : b;
  }
};

__device__ inline Ranked next_ranked(const float* x, int n, const Ranked& previous,
                                     Ranked* shared) {
  Ranked best;
  for (int i = threadIdx.x; i < n; i += kSampleThreads) {
    const Ranked mine{x[i], i};
    if (previous.token < 0 || previous.before(mine)) best = FirstRanked{}(best, mine);
  }
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    best = FirstRanked{}(best, {__shfl_xor_sync(kAllLanes, best.value, offset),
                                __shfl_xor_sync(kAllLanes, best.token, offset)});
  }
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = best;
  __syncthreads();
  best = shared[0];
  for (int i = 1; i < kSampleThreads / kWarp; ++i) best = FirstRanked{}(best, shared[i]);
  __syncthreads();
  return best;
}

__device__ inline bool has_penalties(const SampleRow& row) {
  return row.presence_penalty != 0.0F || row.frequency_penalty != 0.0F ||
         row.repetition_penalty != 1.0F;
}

__device__ inline float penalised(const SampleRow& row, std::uint16_t counted, float logit) {
  if (counted == 0) return logit;
  if (row.repetition_penalty != 1.0F) {
    logit = logit > 0.0F ? logit / row.repetition_penalty : logit * row.repetition_penalty;
  }
  const int generated = counted & ~kInPrompt;
  if (generated > 0) {
    logit -= row.presence_penalty + row.frequency_penalty * static_cast<float>(generated);
  }
  return logit;
}

// Edits, penalties and mask, in this order, into `processed`; the model's own logits when nothing
// changes them.
__device__ inline const float* process(const SampleParams& p, const SampleRow& row,
                                       const float* logits, float* processed) {
  const bool penalties = has_penalties(row);
  if (row.num_edits == 0 && !penalties && row.mask < 0) return logits;
  for (int t = threadIdx.x; t < p.vocab_size; t += kSampleThreads) processed[t] = logits[t];
  __syncthreads();
  const LogitEdit* edits = p.edits + row.first_edit;
  for (int i = threadIdx.x; i < row.num_edits; i += kSampleThreads) {
    const TokenId token = edits[i].token;
    bool first = token >= 0 && token < p.vocab_size;
    for (int j = 0; j < i && first; ++j) first = edits[j].token != token;
    if (!first) continue;  // the first edit of a token applies all of them
    for (int j = i; j < row.num_edits; ++j) {
      if (edits[j].token == token) processed[token] += edits[j].bias;
    }
  }
  __syncthreads();
  const std::uint16_t* counts = p.token_counts + static_cast<std::size_t>(row.slot) * p.vocab_size;
  const std::uint32_t* mask =
      row.mask < 0 ? nullptr : p.masks + static_cast<std::size_t>(row.mask) * p.mask_words;
  for (int t = threadIdx.x; t < p.vocab_size; t += kSampleThreads) {
    if (penalties) processed[t] = penalised(row, counts[t], processed[t]);
    if (mask != nullptr && (mask[t / 32] >> (t % 32) & 1U) == 0) processed[t] = -INFINITY;
  }
  __syncthreads();
  return processed;
}

// Under softmax of the model's own logits.
__device__ inline void report_logprobs(const float* logits, float highest, int vocab,
                                       const SampleRow& row, TokenId token, double* sums,
                                       Ranked* ranks, SampleOutcome& outcome) {
  double sum = 0.0;
  for (int t = threadIdx.x; t < vocab; t += kSampleThreads) {
    sum += static_cast<double>(expf(logits[t] - highest));
  }
  sum = block_reduce(sum, Sum{}, sums);
  const double log_total = static_cast<double>(highest) + log(sum);
  if (threadIdx.x == 0) {
    outcome.logprob = static_cast<float>(static_cast<double>(logits[token]) - log_total);
  }
  const int wanted = min(min(row.num_top, kMaxTopLogprobs), vocab);
  Ranked last;
  for (int i = 0; i < wanted; ++i) {
    last = next_ranked(logits, vocab, last, ranks);
    if (threadIdx.x == 0) {
      outcome.top_tokens[i] = last.token;
      outcome.top_logprobs[i] = static_cast<float>(static_cast<double>(last.value) - log_total);
      outcome.num_top = wanted;
    }
  }
}

// Counts a draw; the counter stays at its end.
__device__ inline void count_draw(const SampleParams& p, const SampleRow& row, TokenId token) {
  p.last_tokens[row.slot] = token;
  std::uint16_t& count = p.token_counts[static_cast<std::size_t>(row.slot) * p.vocab_size + token];
  if ((count & ~kInPrompt) != kInPrompt - 1) ++count;
}

// processed: [num_rows, vocab], written for rows that change their logits. Grid: rows.
__global__ void __launch_bounds__(kSampleThreads) sample_kernel(SampleParams p, float* processed) {
  __shared__ DrawStorage draw;
  __shared__ float floats[kBlockShared];
  __shared__ double doubles[kBlockShared];
  __shared__ Ranked ranks[kBlockShared];
  const SampleRow row = p.rows[blockIdx.x];
  const std::size_t first = static_cast<std::size_t>(blockIdx.x) * p.vocab_size;
  const float* logits = p.logits + first;
  SampleOutcome& outcome = p.outcomes[blockIdx.x];
  auto* words = reinterpret_cast<std::int32_t*>(&outcome);
  for (int i = threadIdx.x; i < static_cast<int>(sizeof(SampleOutcome) / 4); i += kSampleThreads) {
    words[i] = 0;
  }
  const RowRange model = row_range(logits, p.vocab_size, floats);

  TokenId token = -1;
  bool finite = model.finite;
  if (finite && row.target >= 0) {
    token = row.target;
  } else if (finite) {
    const float* changed = process(p, row, logits, processed + first);
    const RowRange range = changed == logits ? model : row_range(changed, p.vocab_size, floats);
    finite = !range.nan_or_plus_infinity && range.highest != -INFINITY;
    if (finite && row.temperature > 0.0F) {
      const float inverse = fminf(1.0F / row.temperature, FLT_MAX);
      token = draw_token({changed, p.vocab_size, range.highest, inverse}, row, draw);
    } else if (finite) {
      token = next_ranked(changed, p.vocab_size, {}, ranks).token;
    }
    if (finite && threadIdx.x == 0) count_draw(p, row, token);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    outcome.token = token;
    outcome.finite = finite ? 1 : 0;
  }
  if (finite && row.num_top >= 0) {
    report_logprobs(logits, model.highest, p.vocab_size, row, token, doubles, ranks, outcome);
  }
}

}  // namespace latentd::cuda
