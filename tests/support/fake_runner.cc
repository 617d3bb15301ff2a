#include "tests/support/fake_runner.h"

#include <algorithm>
#include <array>

#include "base/check.h"

namespace latentd {
namespace {

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  std::uint64_t value = (a ^ (b + 0x9e3779b97f4a7c15ULL)) * 0xbf58476d1ce4e5b9ULL;
  value ^= value >> 29;
  value *= 0x94d049bb133111ebULL;
  return value ^ (value >> 32);
}

std::uint64_t first_value(const Request& request) { return mix(0x5a17, request.salt); }

std::uint64_t next_value(std::uint64_t previous, TokenId token) {
  return mix(previous, static_cast<std::uint64_t>(token));
}

std::uint64_t fold(std::uint64_t seen, std::uint64_t value) { return seen * 31 + value; }

TokenId draw(std::uint64_t seen, const Request& request, int position,
             const TokenConstraint* constraint) {
  const std::uint64_t number =
      mix(mix(seen, request.sampling.seed), static_cast<std::uint64_t>(position));
  std::array<std::uint32_t, FakeRunner::kMaskWords> mask;
  mask.fill(0xffffffffU);
  if (constraint != nullptr) constraint->fill_mask(mask);
  for (std::uint64_t offset = 0; offset < FakeRunner::kVocab; ++offset) {
    const std::uint64_t token = (number + offset) % FakeRunner::kVocab;
    if ((mask[token / 32] >> (token % 32) & 1U) != 0) return static_cast<TokenId>(token);
  }
  return 0;
}

float logprob_of(std::uint64_t seen, TokenId token) {
  return -static_cast<float>(mix(seen, static_cast<std::uint64_t>(token)) % 1000) / 100.0F;
}

}  // namespace

FakeRunner::FakeRunner(int num_pages, int page_tokens, int num_slots, int max_tokens)
    : page_tokens_(page_tokens),
      max_tokens_(max_tokens),
      cache_(static_cast<std::size_t>(num_pages * page_tokens)),
      slots_(static_cast<std::size_t>(num_slots)),
      row_starts_(static_cast<std::size_t>(num_slots)) {}

void FakeRunner::forward(const BatchPlan& plan) {
  LATENTD_CHECK(plan.step == last_step_ + 1, "step {} after {}", plan.step, last_step_);
  last_step_ = plan.step;
  LATENTD_CHECK(!plan.empty() && plan.num_tokens() <= max_tokens_, "{} tokens of {}",
                plan.num_tokens(), max_tokens_);
  std::ranges::fill(row_starts_, -1);
  for (const PlanRow& row : plan.rows) {
    LATENTD_CHECK(row.count > 0, "an empty row");
    LATENTD_CHECK(row_starts_[row.slot.index()] < 0, "slot {} has two rows", row.slot.value());
    row_starts_[row.slot.index()] = row.start;
  }
  apply_starts(plan);
  apply_page_changes(plan);
  check_prefixes(plan);
  for (const PlanRow& row : plan.rows) compute_row(plan, row);
}

void FakeRunner::apply_starts(const BatchPlan& plan) {
  for (const SlotStart& start : plan.starts) {
    SlotState& slot = slots_[start.slot.index()];
    slot = SlotState{};
    slot.request = start.request;
    slot.tokens = start.request->prompt;
    slot.prompt_tokens = static_cast<int>(slot.tokens.size());
    const auto first = plan.tokens.begin() + start.first_generated;
    slot.tokens.insert(slot.tokens.end(), first, first + start.num_generated);
  }
}

void FakeRunner::apply_page_changes(const BatchPlan& plan) {
  for (const PageTableChange& change : plan.page_changes) {
    SlotState& slot = slots_[change.slot.index()];
    const int row_start = row_starts_[change.slot.index()];
    LATENTD_CHECK(row_start >= 0, "pages change in slot {} without a row", change.slot.value());
    LATENTD_CHECK(static_cast<std::size_t>(change.first_index) <= slot.pages.size(),
                  "a gap in the page table of slot {}", change.slot.value());
    const std::size_t end = static_cast<std::size_t>(change.first_index + change.num_pages);
    slot.pages.resize(std::max(slot.pages.size(), end), PageId(-1));
    for (int i = 0; i < change.num_pages; ++i) {
      const PageId page = plan.pages[static_cast<std::size_t>(change.first_page + i)];
      const int index = change.first_index + i;
      slot.pages[static_cast<std::size_t>(index)] = page;
      if (index * page_tokens_ < row_start) continue;  // shared with an equal prefix
      const auto first = page.index() * static_cast<std::size_t>(page_tokens_);
      std::fill_n(cache_.begin() + static_cast<std::ptrdiff_t>(first), page_tokens_, Entry{});
    }
  }
}

// What batch_plan.h says of prefixes.
void FakeRunner::check_prefixes(const BatchPlan& plan) const {
  std::vector<std::int32_t> innermost(plan.rows.size(), -1);
  for (std::size_t p = 0; p < plan.prefixes.size(); ++p) {
    const SharedPrefix& prefix = plan.prefixes[p];
    LATENTD_CHECK(prefix.num_rows >= 2 && prefix.begin < prefix.end, "prefix {} is empty", p);
    const auto first = static_cast<std::size_t>(prefix.first_row);
    const auto last = first + static_cast<std::size_t>(prefix.num_rows);
    LATENTD_CHECK(last <= plan.rows.size(), "prefix {} has rows up to {}", p, last);
    LATENTD_CHECK(prefix.parent < static_cast<std::int32_t>(p), "prefix {} before its parent", p);
    LATENTD_CHECK(
        prefix.begin ==
            (prefix.parent < 0 ? 0 : plan.prefixes[static_cast<std::size_t>(prefix.parent)].end),
        "prefix {} begins at {}", p, prefix.begin);
    const auto pages = static_cast<std::size_t>(prefix.end / page_tokens_);
    LATENTD_CHECK(prefix.end % page_tokens_ == 0, "prefix {} ends within a page", p);
    const auto shared = this->pages(plan.rows[first].slot).first(pages);
    for (std::size_t r = first; r < last; ++r) {
      const PlanRow& row = plan.rows[r];
      LATENTD_CHECK(row.count == 1 && row.start >= prefix.end, "row {} in prefix {}", r, p);
      LATENTD_CHECK(std::ranges::equal(this->pages(row.slot).first(pages), shared),
                    "row {} has not the pages of prefix {}", r, p);
      LATENTD_CHECK(innermost[r] == prefix.parent, "row {} is in prefix {} without its parent", r,
                    p);
      innermost[r] = static_cast<std::int32_t>(p);
    }
  }
  for (std::size_t r = 0; r < plan.rows.size(); ++r) {
    LATENTD_CHECK(plan.rows[r].prefix == innermost[r], "row {}: prefix {}, not {}", r, innermost[r],
                  plan.rows[r].prefix);
  }
}

FakeRunner::Entry& FakeRunner::entry(const SlotState& slot, int position) {
  const auto index = static_cast<std::size_t>(position / page_tokens_);
  LATENTD_CHECK(index < slot.pages.size(), "position {} has no page", position);
  return cache_[slot.pages[index].index() * static_cast<std::size_t>(page_tokens_) +
                static_cast<std::size_t>(position % page_tokens_)];
}

void FakeRunner::compute_row(const BatchPlan& plan, const PlanRow& row) {
  SlotState& slot = slots_[row.slot.index()];
  LATENTD_CHECK(slot.request != nullptr, "slot {} was never started", row.slot.value());
  if (slot.failed) return;
  const auto start = static_cast<std::size_t>(row.start);
  LATENTD_CHECK(start + static_cast<std::size_t>(row.count) <= slot.tokens.size(),
                "row {}..{} of {} tokens", row.start, row.start + row.count, slot.tokens.size());
  // What a prefix hit spared: the slot ought to see what its own tokens would have written.
  while (slot.values.size() < start) {
    const std::uint64_t previous =
        slot.values.empty() ? first_value(*slot.request) : slot.values.back();
    slot.values.push_back(next_value(previous, slot.tokens[slot.values.size()]));
  }
  LATENTD_CHECK(slot.values.size() == start, "row starts at {}, computed are {}", start,
                slot.values.size());

  slot.seen = 0;
  for (std::size_t position = 0; position < start; ++position) {
    const Entry& read = entry(slot, static_cast<int>(position));
    LATENTD_CHECK(read.written, "slot {} reads position {}, which nobody wrote", row.slot.value(),
                  position);
    LATENTD_CHECK(read.value == slot.values[position],
                  "slot {} reads another prefix at position {}", row.slot.value(), position);
    slot.seen = fold(slot.seen, read.value);
  }
  slot.seen_at.clear();
  for (std::size_t i = 0; i < static_cast<std::size_t>(row.count); ++i) {
    const TokenId token = row.pending_token
                              ? slot.tokens.back()
                              : plan.tokens[static_cast<std::size_t>(row.first_token) + i];
    LATENTD_CHECK(token == slot.tokens[start + i], "slot {} computes another token at {}",
                  row.slot.value(), start + i);
    const std::uint64_t previous = start + i == 0
                                       ? first_value(*slot.request)
                                       : entry(slot, static_cast<int>(start + i) - 1).value;
    Entry& written = entry(slot, static_cast<int>(start + i));
    LATENTD_CHECK(!written.written, "slot {} writes position {} twice", row.slot.value(),
                  start + i);
    written = {next_value(previous, token), true};
    slot.values.push_back(written.value);
    slot.seen = fold(slot.seen, written.value);
    slot.seen_at.push_back(slot.seen);
  }
  tokens_computed_ += static_cast<std::uint64_t>(row.count);
}

void FakeRunner::sample(const BatchPlan& plan, Scheduler& scheduler, StepResult& result) {
  result.clear();
  result.step = plan.step;
  for (const PlanRow& row : plan.rows) {
    SlotState& slot = slots_[row.slot.index()];
    RowResult& outcome = result.rows.emplace_back();
    // Null when the sequence was finished meanwhile: its result will be dropped.
    const Request* request = scheduler.running_request(row.slot);
    if (request == nullptr) continue;
    const int end = row.start + row.count;
    if (failing.contains(request->id) && end > failing_position) {
      outcome.status = StatusCode::kInternal;
      slot.failed = true;
      continue;
    }
    if (row.logits == LogitsWanted::kAll) report_prompt(row, slot, outcome, result);
    if (!row.samples) continue;
    LATENTD_CHECK(row.logits != LogitsWanted::kNone, "a row samples without logits");
    outcome.sampled = true;
    outcome.sample.token.token = draw(slot.seen, *request, end, request->constraint.get());
    outcome.sample.token.logprob = logprob_of(slot.seen, outcome.sample.token.token);
    slot.tokens.push_back(outcome.sample.token.token);
  }
}

void FakeRunner::report_prompt(const PlanRow& row, const SlotState& slot, RowResult& outcome,
                               StepResult& result) const {
  outcome.first_prompt = static_cast<std::int32_t>(result.prompt_logprobs.size());
  const int last = static_cast<int>(slot.request->prompt.size()) - 1;
  for (int position = row.start; position < std::min(row.start + row.count, last); ++position) {
    TokenOutcome& reported = result.prompt_logprobs.emplace_back();
    reported.token.token = slot.request->prompt[static_cast<std::size_t>(position + 1)];
    reported.token.logprob = logprob_of(
        slot.seen_at[static_cast<std::size_t>(position - row.start)], reported.token.token);
    reported.first_top = static_cast<std::int32_t>(result.top_logprobs.size());
    reported.num_top = 1;
    result.top_logprobs.push_back(reported.token);
    ++outcome.num_prompt;
  }
}

std::vector<TokenId> FakeRunner::expected_text(const Request& request,
                                               TokenConstraint* constraint) {
  std::vector<TokenId> text;
  std::uint64_t value = first_value(request);
  std::uint64_t seen = 0;
  const auto append = [&](TokenId token) {
    value = next_value(value, token);
    seen = fold(seen, value);
  };
  for (const TokenId token : request.prompt) append(token);
  while (static_cast<int>(text.size()) < request.max_new_tokens) {
    const int position = static_cast<int>(request.prompt.size() + text.size());
    const TokenId token = draw(seen, request, position, constraint);
    if (constraint != nullptr && !constraint->accept(token)) break;
    text.push_back(token);
    if (static_cast<int>(text.size()) >= request.min_new_tokens &&
        std::ranges::find(request.stop_tokens, token) != request.stop_tokens.end()) {
      break;
    }
    if (constraint != nullptr && constraint->complete()) break;
    append(token);
  }
  return text;
}

float FakeRunner::expected_prompt_logprob(const Request& request, int position) {
  std::uint64_t value = first_value(request);
  std::uint64_t seen = 0;
  for (int i = 0; i < position; ++i) {
    value = next_value(value, request.prompt[static_cast<std::size_t>(i)]);
    seen = fold(seen, value);
  }
  return logprob_of(seen, request.prompt[static_cast<std::size_t>(position)]);
}

}  // namespace latentd
