// The rows of a step: decode rows first, then pieces of prompts in order, the waiting ones admitted
// in their turn.
#include <algorithm>
#include <limits>

#include "base/check.h"
#include "scheduler/scheduler_state.h"

namespace latentd {
namespace {

// Waiting requests that a step looks at, and woken ones that it brings back: bounds the cost of a
// step when thousands share a prefix.
constexpr int kMaxConsidered = 64;
constexpr int kMaxReturned = 128;

bool runs_before(const Sequence* a, const Sequence* b) { return RunsBefore{}(*a, *b); }

}  // namespace

bool Scheduler::State::plan(TimePoint now, BatchPlan& out) {
  LATENTD_CHECK(num_in_flight < options.pipeline_depth, "{} plans are uncommitted", num_in_flight);
  out.clear();
  expire(now);
  PlanInFlight& planned = ring[(oldest + static_cast<std::size_t>(num_in_flight)) % ring.size()];
  planned.rows.clear();
  planned.step = counters.steps + 1;
  ++num_in_flight;  // add_row records into the newest plan

  budget = options.max_num_batched_tokens;
  admitting = true;
  if (options.overcommit) grow_promises();
  plan_decode(out);
  plan_prompts(now, out);
  if (out.rows.empty()) {
    --num_in_flight;
    return false;
  }
  out.step = planned.step;
  counters.steps = planned.step;
  return true;
}

void Scheduler::State::plan_decode(BatchPlan& out) {
  shared_tokens.clear();
  int shared = 0;  // pages of all since the last row
  for (std::size_t i = 0; i < decoding.size(); ++i) {
    shared = std::min(shared, decoding.common(i));
    Sequence& sequence = decoding[i];
    // Finished once what is in flight is committed, or without a page until somebody leaves.
    if (!sequence.wants_more() || lacks_page(sequence)) continue;
    add_row(sequence, 1, out);
    shared_tokens.push_back(shared * blocks.page_tokens());
    shared = std::numeric_limits<int>::max();
  }
  find_prefixes(shared_tokens, options.prefixes, out);
}

void Scheduler::State::plan_prompts(TimePoint now, BatchPlan& out) {
  if (ranks_changed) std::ranges::sort(prompts, runs_before);
  ranks_changed = false;
  waiting.return_woken(kMaxReturned);
  waiting.restart();
  int considered = 0;
  std::size_t index = 0;
  while (budget > 0) {
    Sequence* candidate = admitting ? next_candidate() : nullptr;
    Sequence* running = index < prompts.size() ? prompts[index] : nullptr;
    if (candidate != nullptr && (running == nullptr || runs_before(candidate, running))) {
      // Admitted, it becomes prompts[index]: its piece is planned in the next turn.
      admitting = ++considered <= kMaxConsidered && consider(*candidate, index, now, out);
      continue;
    }
    if (running == nullptr) break;
    const int end = running->known();
    const int count = piece(running->scheduled, end);
    // Nothing overtakes a piece that does not fit: an aligned one could wait for ever.
    if (count == 0) break;
    add_row(*running, count, out);
    if (running->scheduled < end) {
      ++index;
      continue;
    }
    prompts.erase(prompts.begin() + static_cast<std::ptrdiff_t>(index));
    decoding.insert(*running);
  }
}

int Scheduler::State::piece(int start, int end) const {
  int stop = std::min(end, start + budget);
  if (stop < end && options.prefill_alignment > 0) {
    stop -= stop % options.prefill_alignment;
  }
  return std::max(stop - start, 0);
}

void Scheduler::State::add_row(Sequence& sequence, int count, BatchPlan& out) {
  ++sequence.steps;
  const int start = sequence.scheduled;
  const int end = start + count;
  const bool reaches_end = end == sequence.known() + sequence.pending;

  PlanRow row;
  row.slot = sequence.slot;
  row.start = start;
  row.count = count;
  row.samples = reaches_end && sequence.wants_more();
  row.pending_token = sequence.pending > 0;
  row.first_token = static_cast<std::int32_t>(out.tokens.size());
  if (!row.pending_token) {
    const TokenRun tokens = sequence.tokens();
    for (int position = start; position < end; ++position) {
      out.tokens.push_back(tokens[static_cast<std::size_t>(position)]);
    }
  }
  const int prompt_logprobs = sequence.reports_prompt()
                                  ? std::max(std::min(end, sequence.prompt_length() - 1) - start, 0)
                                  : 0;
  if (row.samples) row.logits = LogitsWanted::kLast;
  if (prompt_logprobs > 0) row.logits = LogitsWanted::kAll;
  out.rows.push_back(row);

  const int pages = blocks.pages_for_tokens(end);
  while (sequence.pages->held() < pages) blocks.take(*sequence.pages);
  send_pages(sequence, out);

  PlanInFlight& planned =
      ring[(oldest + static_cast<std::size_t>(num_in_flight) - 1) % ring.size()];
  planned.rows.push_back({&sequence, start, count, row.samples, prompt_logprobs});
  counters.prompt_tokens_computed +=
      static_cast<std::uint64_t>(std::max(std::min(end, sequence.prompt_length()) - start, 0));
  sequence.scheduled = end;
  ++sequence.in_flight;
  if (row.samples) ++sequence.pending;
  budget -= count;
}

void Scheduler::State::send_pages(Sequence& sequence, BatchPlan& out) {
  const int held = sequence.pages->held();
  if (sequence.sent_pages == held) return;
  PageTableChange change;
  change.slot = sequence.slot;
  change.first_index = sequence.sent_pages;
  change.num_pages = held - sequence.sent_pages;
  change.first_page = static_cast<std::int32_t>(out.pages.size());
  const auto changed =
      sequence.pages->pages().subspan(static_cast<std::size_t>(sequence.sent_pages));
  out.pages.insert(out.pages.end(), changed.begin(), changed.end());
  out.page_changes.push_back(change);
  sequence.sent_pages = held;
}

}  // namespace latentd
