#include "engine/step_stager.h"

#include <algorithm>
#include <limits>
#include <span>

#include "base/check.h"

namespace latentd {
namespace {

constexpr float kBanned = -std::numeric_limits<float>::infinity();

template <typename T>
T* pointer(const std::unique_ptr<Buffer>& buffer) {
  return static_cast<T*>(buffer->data());
}

}  // namespace

StepStager::StepStager(Backend& backend, RunnerMemory& memory, std::int32_t vocab_size,
                       int max_num_seqs)
    : backend_(backend),
      memory_(memory),
      vocab_size_(vocab_size),
      mask_words_((static_cast<std::size_t>(vocab_size) + 31) / 32),
      allowed_mask_(mask_words_),
      slot_requests_(static_cast<std::size_t>(max_num_seqs), nullptr) {}

void StepStager::stage_forward(const BatchPlan& plan, StepBuffers& step) {
  step.clear();
  step.step = plan.step;
  for (const SlotStart& start : plan.starts) start_slot(start, plan);
  for (const PageTableChange& change : plan.page_changes) stage_pages(change, plan, step);
  for (const PlanRow& row : plan.rows) stage_row(row, plan, step);
  for (const SharedPrefix& p : plan.prefixes) {
    step.prefixes.push_back({p.first_row, p.num_rows, p.begin, p.end, p.parent});
  }
}

void StepStager::stage_sample(StepBuffers& step) {
  const std::span<SampleRow> rows = step.sample_rows.host();
  for (RowLogits& logits : step.row_logits) {
    if (logits.sample < 0) continue;
    SampleRow& row = rows[static_cast<std::size_t>(logits.sample)];
    logits.nothing_allowed =
        !stage_draw(*slot_requests_[static_cast<std::size_t>(row.slot)], row, step);
  }
}

// Zeroes the slot's token counts and fills in what its sequence already holds, when its sampler
// will look at them.
void StepStager::start_slot(const SlotStart& start, const BatchPlan& plan) {
  const Request& request = *start.request;
  slot_requests_[start.slot.index()] = &request;
  if (!request.sampling.has_penalties()) return;

  if (count_rows_staged_ == RunnerMemory::kCountRows) {
    // A fault here is sticky: run() of the step reports it.
    (void)backend_.wait(backend_.record());
    count_rows_staged_ = 0;
  }
  const auto vocab = static_cast<std::size_t>(vocab_size_);
  auto* counts = pointer<std::uint16_t>(memory_.count_staging) + count_rows_staged_ * vocab;
  ++count_rows_staged_;
  std::fill_n(counts, vocab, std::uint16_t{0});
  for (std::int32_t i = 0; i < start.num_generated; ++i) {
    const TokenId token =
        plan.tokens[static_cast<std::size_t>(start.first_generated) + static_cast<std::size_t>(i)];
    std::uint16_t& count = counts[token];
    if (count < kInPrompt - 1) ++count;
  }
  for (const TokenId token : request.prompt) counts[token] |= kInPrompt;
  backend_.copy_in(pointer<std::uint16_t>(memory_.token_counts) + start.slot.index() * vocab,
                   counts, vocab * sizeof(std::uint16_t));
}

void StepStager::stage_pages(const PageTableChange& change, const BatchPlan& plan,
                             StepBuffers& step) {
  for (std::int32_t i = 0; i < change.num_pages; ++i) {
    const PageId page =
        plan.pages[static_cast<std::size_t>(change.first_page) + static_cast<std::size_t>(i)];
    step.updates.push_back({change.slot.value(), change.first_index + i, page.value()});
  }
}

void StepStager::stage_row(const PlanRow& row, const BatchPlan& plan, StepBuffers& step) {
  const auto first_token = static_cast<std::int32_t>(step.tokens.size());
  const auto count = static_cast<std::size_t>(row.count);
  step.rows.push_back({row.slot.value(), first_token, row.count, row.start});
  step.row_prefixes.push_back(row.prefix);
  const std::span<TokenId> tokens = step.tokens.extend(count);
  const std::span<std::int32_t> positions = step.positions.extend(count);
  const std::span<std::int32_t> slots = step.token_slots.extend(count);
  for (std::size_t i = 0; i < count; ++i) {
    tokens[i] = row.pending_token ? -1 : plan.tokens[static_cast<std::size_t>(row.first_token) + i];
    positions[i] = row.start + static_cast<std::int32_t>(i);
    slots[i] = row.slot.value();
  }
  stage_logits(row, first_token, step);
}

// One row of logits for every prompt token whose logprob is wanted, and one for the draw.
void StepStager::stage_logits(const PlanRow& row, std::int32_t first_token, StepBuffers& step) {
  const Request& request = *slot_requests_[row.slot.index()];
  RowLogits logits;
  logits.first_target = static_cast<std::int32_t>(step.sample_rows.size());
  if (row.logits == LogitsWanted::kAll) {
    const auto prompt_size = static_cast<std::int32_t>(request.prompt.size());
    logits.num_targets = std::clamp(prompt_size - 1 - row.start, 0, row.count);
    for (std::int32_t i = 0; i < logits.num_targets; ++i) {
      SampleRow target;
      target.slot = row.slot.value();
      target.position = row.start + i + 1;
      target.target = request.prompt[static_cast<std::size_t>(target.position)];
      target.num_top = request.sampling.num_top_logprobs;
      target.seed = request.sampling.seed;  // draws nothing; names the row's request
      step.logit_tokens.push_back(first_token + i);
      step.sample_rows.push_back(target);
    }
  }
  if (row.samples) {
    LATENTD_CHECK(row.logits != LogitsWanted::kNone, "a row that samples needs logits");
    SampleRow draw;
    draw.slot = row.slot.value();
    draw.position = row.start + row.count;
    logits.sample = static_cast<std::int32_t>(step.sample_rows.size());
    step.logit_tokens.push_back(first_token + row.count - 1);
    step.sample_rows.push_back(draw);
  }
  step.row_logits.push_back(logits);
}

// What a draw needs to know of its request, at the time of the draw: constraints have seen all
// earlier tokens. False when they leave nothing to draw.
bool StepStager::stage_draw(const Request& request, SampleRow& row, StepBuffers& step) {
  const SamplingParams& sampling = request.sampling;
  row.num_top = sampling.num_top_logprobs;
  row.top_k = sampling.top_k;
  row.temperature = sampling.temperature;
  row.top_p = sampling.top_p;
  row.min_p = sampling.min_p;
  row.presence_penalty = sampling.presence_penalty;
  row.frequency_penalty = sampling.frequency_penalty;
  row.repetition_penalty = sampling.repetition_penalty;
  row.seed = sampling.seed;

  row.first_edit = static_cast<std::int32_t>(step.edits.size());
  for (const auto& [token, bias] : sampling.logit_bias) step.edits.push_back({token, bias});
  const auto generated = row.position - static_cast<std::int32_t>(request.prompt.size());
  std::span<const TokenId> banned;
  if (generated < request.min_new_tokens) banned = sampling.banned_until_min_tokens;
  for (const TokenId token : banned) step.edits.push_back({token, kBanned});
  row.num_edits = static_cast<std::int32_t>(step.edits.size()) - row.first_edit;
  const std::span<const std::uint32_t> mask = stage_mask(request, row, step);
  return mask.empty() || leaves_a_token(mask, banned);
}

// Empty when every token is allowed.
std::span<const std::uint32_t> StepStager::stage_mask(const Request& request, SampleRow& row,
                                                      StepBuffers& step) {
  const std::vector<TokenId>& allowed = request.sampling.allowed_tokens;
  if (request.constraint == nullptr && allowed.empty()) return {};
  row.mask = static_cast<std::int32_t>(step.masks.size() / mask_words_);
  const std::span<std::uint32_t> words = step.masks.extend(mask_words_);
  std::fill(words.begin(), words.end(), 0U);
  if (request.constraint != nullptr) request.constraint->fill_mask(words);
  if (allowed.empty()) return words;

  std::fill(allowed_mask_.begin(), allowed_mask_.end(), 0U);
  for (const TokenId token : allowed) {
    const auto bit = static_cast<std::size_t>(token);
    allowed_mask_[bit / 32] |= 1U << (bit % 32);
  }
  const bool constrained = request.constraint != nullptr;
  for (std::size_t word = 0; word < mask_words_; ++word) {
    words[word] = constrained ? words[word] & allowed_mask_[word] : allowed_mask_[word];
  }
  return words;
}

}  // namespace latentd
