#include "engine/backend/cpu/token_draw.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>

#include "engine/backend/cpu/vector_kernels.h"
#include "engine/backend/sampling_random.h"

namespace latentd::cpu {
namespace {

// Up to here candidates are found by one pass with a heap, which most tokens never enter; beyond,
// by partitioning the whole vocabulary.
constexpr int kHeapLimit = 256;

// Heaviest first, ties by lower id.
struct Before {
  const float* values;
  bool operator()(TokenId a, TokenId b) const {
    return values[a] != values[b] ? values[a] > values[b] : a < b;
  }
};

int heap_select(const float* values, int vocab, int count, TokenId* tokens) {
  const Before before{values};
  const int kept = std::min(count, vocab);
  std::iota(tokens, tokens + kept, 0);
  std::make_heap(tokens, tokens + kept, before);  // the top is the worst of those kept
  float worst = values[tokens[0]];
  for (TokenId t = kept; t < vocab; ++t) {
    if (!(values[t] > worst)) continue;  // an equal one has a higher id than all kept
    std::pop_heap(tokens, tokens + kept, before);
    tokens[kept - 1] = t;
    std::push_heap(tokens, tokens + kept, before);
    worst = values[tokens[0]];
  }
  std::sort_heap(tokens, tokens + kept, before);
  return kept;
}

// The `count` heaviest of the vocabulary, sorted; tokens has room for all of it.
int select(const float* weights, int vocab, int count, TokenId* tokens) {
  if (count <= kHeapLimit) return heap_select(weights, vocab, count, tokens);
  std::iota(tokens, tokens + vocab, 0);
  const Before before{weights};
  const int kept = std::min(count, vocab);
  if (kept < vocab) std::nth_element(tokens, tokens + kept, tokens + vocab, before);
  std::sort(tokens, tokens + kept, before);
  return kept;
}

// Length of the shortest prefix of sorted tokens that holds `mass`, or -1 when all hold less.
int prefix_with_mass(const float* weights, const TokenId* tokens, int count, double mass) {
  double sum = 0.0;
  for (int i = 0; i < count; ++i) {
    sum += static_cast<double>(weights[tokens[i]]);
    if (sum >= mass) return i + 1;
  }
  return -1;
}

double mass_of(const float* weights, const TokenId* tokens, int count) {
  double sum = 0.0;
  for (int i = 0; i < count; ++i) sum += static_cast<double>(weights[tokens[i]]);
  return sum;
}

// The candidates that top_k and top_p leave, heaviest first.
int candidates(const float* weights, double total, int vocab, const SampleRow& row,
               TokenId* tokens) {
  const bool nucleus = row.top_p < 1.0F;
  if (row.top_k > 0 && row.top_k < vocab) {
    const int count = select(weights, vocab, row.top_k, tokens);
    if (!nucleus) return count;
    const double mass = static_cast<double>(row.top_p) * mass_of(weights, tokens, count);
    const int prefix = prefix_with_mass(weights, tokens, count, mass);
    return prefix < 0 ? count : prefix;
  }
  const double mass = static_cast<double>(row.top_p) * total;
  for (int guess = kHeapLimit;; guess *= 16) {
    const int count = select(weights, vocab, std::min(guess, vocab), tokens);
    const int prefix = prefix_with_mass(weights, tokens, count, mass);
    if (prefix >= 0) return prefix;
    if (count == vocab) return count;
  }
}

// Walks all tokens, block sums first.
TokenId draw_from_all(const float* weights, const double* block_sums, double total, int vocab,
                      double uniform) {
  double left = uniform * total;
  TokenId last = -1;
  for (int first = 0; first < vocab; first += static_cast<int>(kExpBlock)) {
    const double block = block_sums[static_cast<std::size_t>(first) / kExpBlock];
    if (block <= 0.0) continue;
    const int end = std::min(vocab, first + static_cast<int>(kExpBlock));
    if (left >= block && end < vocab) {
      left -= block;
      continue;
    }
    for (int t = first; t < end; ++t) {
      if (weights[t] <= 0.0F) continue;
      last = t;
      left -= static_cast<double>(weights[t]);
      if (left < 0.0) return t;
    }
  }
  if (last >= 0) return last;
  // Rounding went past the end and the last block was empty: the last token with weight.
  for (TokenId t = vocab - 1; t > 0; --t) {
    if (weights[t] > 0.0F) return t;
  }
  return 0;
}

TokenId draw_from(const float* weights, const TokenId* tokens, int count, double uniform) {
  double left = uniform * mass_of(weights, tokens, count);
  for (int i = 0; i < count; ++i) {
    left -= static_cast<double>(weights[tokens[i]]);
    if (left < 0.0) return tokens[i];
  }
  return tokens[count - 1];
}

}  // namespace

int highest_tokens(const float* values, int vocab, int count, TokenId* tokens) {
  return count == 0 ? 0 : heap_select(values, vocab, count, tokens);
}

TokenId draw_token(const float* logits, float highest, int vocab, const SampleRow& row,
                   WorkerScratch& scratch) {
  const auto n = static_cast<std::size_t>(vocab);
  float* weights = scratch.values.take<float>(n);
  double* block_sums = scratch.state.take<double>((n + kExpBlock - 1) / kExpBlock);
  // The least temperatures' reciprocals are infinite, and infinity times 0 is no number.
  const float factor = std::min(1.0F / row.temperature, std::numeric_limits<float>::max());
  const double total = exp_row(logits, highest, factor, n, weights, block_sums);
  const double uniform = sampling_uniform(row.seed, row.position);
  const bool limited = (row.top_k > 0 && row.top_k < vocab) || row.top_p < 1.0F;
  if (!limited && row.min_p <= 0.0F) {
    return draw_from_all(weights, block_sums, total, vocab, uniform);
  }

  TokenId* tokens = scratch.keys.take<TokenId>(n);
  int count = 0;
  if (limited) {
    count = candidates(weights, total, vocab, row, tokens);
    // The heaviest token's weight is 1.
    while (count > 1 && weights[tokens[count - 1]] < row.min_p) --count;
    while (count > 1 && weights[tokens[count - 1]] <= 0.0F) --count;
    std::sort(tokens, tokens + count);
  } else {
    for (TokenId t = 0; t < vocab; ++t) {
      if (weights[t] >= row.min_p) tokens[count++] = t;
    }
  }
  return draw_from(weights, tokens, count, uniform);
}

}  // namespace latentd::cpu
