// sample: rows of logits to tokens, in the order that SamplingParams documents.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "base/check.h"
#include "engine/backend/cpu/cpu_ops.h"
#include "engine/backend/cpu/token_draw.h"
#include "engine/backend/cpu/vector_kernels.h"

namespace latentd::cpu {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

bool has_penalties(const SampleRow& row) {
  return row.presence_penalty != 0.0F || row.frequency_penalty != 0.0F ||
         row.repetition_penalty != 1.0F;
}

void apply_penalties(const SampleRow& row, const std::uint16_t* counts, int vocab, float* logits) {
  for (int t = 0; t < vocab; ++t) {
    if (counts[t] == 0) continue;
    if (row.repetition_penalty != 1.0F) {
      logits[t] = logits[t] > 0.0F ? logits[t] / row.repetition_penalty
                                   : logits[t] * row.repetition_penalty;
    }
    const int generated = counts[t] & ~kInPrompt;
    if (generated > 0) {
      logits[t] -= row.presence_penalty + row.frequency_penalty * static_cast<float>(generated);
    }
  }
}

void apply_mask(const std::uint32_t* mask, int vocab, float* logits) {
  for (int word = 0; word * 32 < vocab; ++word) {
    const std::uint32_t bits = mask[word];
    if (bits == ~std::uint32_t{0}) continue;
    const int end = std::min(vocab, word * 32 + 32);
    for (int t = word * 32; t < end; ++t) {
      if ((bits >> (t - word * 32) & 1U) == 0) logits[t] = kMinusInfinity;
    }
  }
}

// The row after edits, penalties and mask; the model's own logits when nothing changes them.
const float* process(const SampleParams& p, const SampleRow& row, const float* logits,
                     WorkerScratch& scratch) {
  const bool penalties = has_penalties(row);
  if (row.num_edits == 0 && !penalties && row.mask < 0) return logits;
  const auto vocab = static_cast<std::size_t>(p.vocab_size);
  float* processed = scratch.latents.take<float>(vocab);
  std::copy_n(logits, vocab, processed);
  for (int i = 0; i < row.num_edits; ++i) {
    const LogitEdit& edit = p.edits[row.first_edit + i];
    LATENTD_CHECK(edit.token >= 0 && edit.token < p.vocab_size, "edit of token {} outside [0, {})",
                  edit.token, p.vocab_size);
    processed[edit.token] += edit.bias;
  }
  if (penalties) {
    apply_penalties(row, p.token_counts + static_cast<std::size_t>(row.slot) * vocab, p.vocab_size,
                    processed);
  }
  if (row.mask >= 0) {
    apply_mask(
        p.masks + static_cast<std::size_t>(row.mask) * static_cast<std::size_t>(p.mask_words),
        p.vocab_size, processed);
  }
  return processed;
}

// Under softmax of the model's own logits.
void report_logprobs(const float* logits, float max, int vocab, const SampleRow& row,
                     SampleOutcome& outcome) {
  const double sum = exp_row(logits, max, 1.0F, static_cast<std::size_t>(vocab), nullptr, nullptr);
  const double log_total = static_cast<double>(max) + std::log(sum);
  const auto logprob = [&](TokenId t) {
    return static_cast<float>(static_cast<double>(logits[t]) - log_total);
  };
  outcome.logprob = logprob(outcome.token);
  outcome.num_top = highest_tokens(logits, vocab, std::clamp(row.num_top, 0, kMaxTopLogprobs),
                                   outcome.top_tokens);
  for (int i = 0; i < outcome.num_top; ++i)
    outcome.top_logprobs[i] = logprob(outcome.top_tokens[i]);
}

void count_draw(const SampleParams& p, const SampleRow& row, TokenId token) {
  p.last_tokens[row.slot] = token;
  std::uint16_t& count =
      p.token_counts[static_cast<std::size_t>(row.slot) * static_cast<std::size_t>(p.vocab_size) +
                     static_cast<std::size_t>(token)];
  if ((count & ~kInPrompt) != (kInPrompt - 1)) ++count;
}

TokenId choose(const float* logits, float max, int vocab, const SampleRow& row,
               WorkerScratch& scratch) {
  if (row.temperature > 0.0F) return draw_token(logits, max, vocab, row, scratch);
  return static_cast<TokenId>(std::find(logits, logits + vocab, max) - logits);
}

void sample_row(const SampleParams& p, int index, WorkerScratch& scratch) {
  const SampleRow& row = p.rows[index];
  const auto vocab = static_cast<std::size_t>(p.vocab_size);
  const float* logits = p.logits + static_cast<std::size_t>(index) * vocab;
  SampleOutcome& outcome = p.outcomes[index];
  outcome = {};
  const RowRange model_range = row_range(logits, vocab);
  outcome.finite = model_range.finite ? 1 : 0;
  if (!model_range.finite) return;

  if (row.target >= 0) {
    outcome.token = row.target;
  } else {
    const float* processed = process(p, row, logits, scratch);
    const RowRange range = processed == logits ? model_range : row_range(processed, vocab);
    if (range.has_nan_or_plus_infinity || range.max == kMinusInfinity) {
      outcome.finite = 0;  // nothing may be drawn
      return;
    }
    outcome.token = choose(processed, range.max, p.vocab_size, row, scratch);
    count_draw(p, row, outcome.token);
  }
  if (row.num_top >= 0 || row.target >= 0) {
    report_logprobs(logits, model_range.max, p.vocab_size, row, outcome);
  }
}

}  // namespace

void sample(CpuContext& context, const SampleParams& p) {
  context.pool.parallel_for(
      p.num_rows, [&](int index, int worker) { sample_row(p, index, context.scratch(worker)); });
}

}  // namespace latentd::cpu
