// What came of a step: tokens, prompt logprobs, ends, full pages for the prefix cache.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "scheduler/scheduler_state.h"

namespace latentd {
namespace {

void copy_top(const StepResult& result, const TokenOutcome& outcome, Event& event) {
  const auto first = result.top_logprobs.begin() + outcome.first_top;
  event.top.assign(first, first + outcome.num_top);
}

}  // namespace

void Scheduler::State::commit(const StepResult& result, TimePoint now) {
  LATENTD_CHECK(num_in_flight > 0, "no plan is uncommitted");
  const PlanInFlight& planned = ring[oldest];
  LATENTD_CHECK(result.step == planned.step, "result of step {}, the oldest is {}", result.step,
                planned.step);
  LATENTD_CHECK(result.rows.size() == planned.rows.size(), "{} results for {} rows",
                result.rows.size(), planned.rows.size());
  oldest = (oldest + 1) % ring.size();
  --num_in_flight;

  for (std::size_t i = 0; i < planned.rows.size(); ++i) {
    const RowInFlight& row = planned.rows[i];
    Sequence& sequence = *row.sequence;
    --sequence.in_flight;
    if (row.samples) --sequence.pending;
    if (sequence.state == SequenceState::kRetiring) {  // its result is dropped
      if (sequence.in_flight > 0) continue;
      release_slot(sequence);
      destroy(sequence);
    } else if (commit_row(row, result, result.rows[i], now) &&
               sequence.state == SequenceState::kPreempting && sequence.in_flight == 0) {
      requeue(sequence);
    }
  }
}

// False when the sequence ended: it may be gone.
bool Scheduler::State::commit_row(const RowInFlight& row, const StepResult& result,
                                  const RowResult& outcome, TimePoint now) {
  Sequence& sequence = *row.sequence;
  if (outcome.status != StatusCode::kOk) {
    const bool no_token = outcome.status == StatusCode::kFailedPrecondition;
    finish(sequence, FinishReason::kError, now, -1,
           Status(outcome.status,
                  fmt::format("{} at position {}",
                              no_token ? "the request's constraints leave no token to draw"
                                       : "the step failed for this request",
                              row.start)));
    return false;
  }
  sequence.computed = row.start + row.count;
  publish(sequence);
  if (row.prompt_logprobs > 0) report_prompt(row, result, outcome, now);

  if (row.samples) {
    LATENTD_CHECK(outcome.sampled, "step {} sampled nothing for request {}", result.step,
                  sequence.request->id.value());
    return append_token(sequence, result, outcome.sample, now);
  }
  if (sequence.request->max_new_tokens == 0 && sequence.computed == sequence.prompt_length()) {
    finish(sequence, FinishReason::kLength, now);
    return false;
  }
  return true;
}

void Scheduler::State::publish(Sequence& sequence) {
  const int full =
      std::min(sequence.computed / blocks.page_tokens(), static_cast<int>(sequence.hashes.size()));
  if (full <= sequence.pages->published()) return;
  const int changed = blocks.publish(*sequence.pages, sequence.tokens(), sequence.hashes, full);
  // The runner hears of pages that were exchanged with the sequence's next row.
  sequence.sent_pages = std::min(sequence.sent_pages, changed);
  if (changed < sequence.pages->held()) decoding.move(sequence);
  computing.settle(sequence, full / unit_pages, waiting.woken());
}

void Scheduler::State::report_prompt(const RowInFlight& row, const StepResult& result,
                                     const RowResult& outcome, TimePoint now) {
  Sequence& sequence = *row.sequence;
  LATENTD_CHECK(outcome.num_prompt >= row.prompt_logprobs, "{} prompt logprobs of {}",
                outcome.num_prompt, row.prompt_logprobs);
  const auto first = result.prompt_logprobs.begin() + outcome.first_prompt;
  for (int i = 0; i < row.prompt_logprobs; ++i) {
    // A sequence that was preempted within its prompt has reported some before.
    if (row.start + 1 + i < sequence.prompt_tokens_reported) continue;
    const TokenOutcome& reported = first[i];
    Event& event = emit(Event::Kind::kPromptLogprob, sequence, now);
    event.token = reported.token;
    copy_top(result, reported, event);
    ++sequence.prompt_tokens_reported;
  }
}

// False when the sequence ended.
bool Scheduler::State::append_token(Sequence& sequence, const StepResult& result,
                                    const TokenOutcome& outcome, TimePoint now) {
  const Request& request = *sequence.request;
  const TokenId token = outcome.token.token;
  TokenConstraint* constraint = request.constraint.get();
  if (constraint != nullptr && !constraint->accept(token)) {
    finish(sequence, FinishReason::kError, now, -1,
           Status(StatusCode::kInternal,
                  fmt::format("token {} is not what the constraint allows", token)));
    return false;
  }
  sequence.generated.push_back(token);
  ++counters.generated_tokens;
  extend_hashes(sequence);
  Event& event = emit(Event::Kind::kToken, sequence, now);
  event.token = outcome.token;
  if (request.sampling.wants_logprobs()) copy_top(result, outcome, event);

  const int length = sequence.num_generated();
  if (length >= request.min_new_tokens &&
      std::ranges::find(request.stop_tokens, token) != request.stop_tokens.end()) {
    finish(sequence, FinishReason::kStop, now, token);
  } else if (constraint != nullptr && constraint->complete()) {
    finish(sequence, FinishReason::kStop, now);
  } else if (length == request.max_new_tokens) {
    finish(sequence, FinishReason::kLength, now);
  } else {
    return true;
  }
  return false;
}

}  // namespace latentd
