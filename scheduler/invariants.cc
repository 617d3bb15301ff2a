#include <algorithm>

#include "base/check.h"
#include "scheduler/scheduler_state.h"

namespace latentd {
namespace {

void check_waiting(const Sequence& sequence) {
  const auto id = sequence.request->id.value();
  LATENTD_CHECK(sequence.place != WaitingPlace::kNone, "request {} waits nowhere", id);
  LATENTD_CHECK(sequence.pages == nullptr && sequence.slot.value() < 0, "request {} has a slot",
                id);
  LATENTD_CHECK(sequence.in_flight == 0 && sequence.pending == 0, "request {} is in flight", id);
  LATENTD_CHECK(sequence.first_unit == sequence.end_unit, "request {} announces units", id);
}

void check_active(const Sequence& sequence, const BlockManager& blocks) {
  const auto id = sequence.request->id.value();
  LATENTD_CHECK(sequence.place == WaitingPlace::kNone, "request {} runs and waits", id);
  LATENTD_CHECK(sequence.pages != nullptr && sequence.pages->is_open(), "request {}: pages", id);
  LATENTD_CHECK(sequence.computed <= sequence.scheduled &&
                    sequence.scheduled <= sequence.known() + sequence.pending,
                "request {}: {} computed, {} scheduled, {} known", id, sequence.computed,
                sequence.scheduled, sequence.known());
  LATENTD_CHECK(sequence.pages->held() >= blocks.pages_for_tokens(sequence.scheduled),
                "request {}: {} pages for {} tokens", id, sequence.pages->held(),
                sequence.scheduled);
  LATENTD_CHECK(sequence.pages->published() * blocks.page_tokens() <= sequence.computed,
                "request {}: {} pages published, {} tokens computed", id,
                sequence.pages->published(), sequence.computed);
  LATENTD_CHECK(sequence.num_generated() + sequence.pending <= sequence.request->max_new_tokens,
                "request {}: {} tokens and {} pending", id, sequence.num_generated(),
                sequence.pending);
}

}  // namespace

void Scheduler::State::check_invariants() const {
  blocks.check_invariants();
  waiting.check_invariants();
  deadlines.check_invariants();
  decoding.check_invariants();

  int num_waiting = 0;
  int num_running = 0;
  int leaving = 0;
  int announced = 0;
  std::size_t with_deadline = 0;
  for (const auto& [id, owned] : sequences) {
    const Sequence& sequence = *owned;
    LATENTD_CHECK(sequence.request->id == id, "request {} is filed under {}",
                  sequence.request->id.value(), id.value());
    if (sequence.state == SequenceState::kWaiting) {
      check_waiting(sequence);
      ++num_waiting;
    } else {
      check_active(sequence, blocks);
      LATENTD_CHECK(slots[sequence.slot.index()].sequence == &sequence, "request {}: slot",
                    id.value());
      (sequence.state == SequenceState::kRunning ? num_running : leaving) += 1;
      announced += sequence.end_unit - sequence.first_unit;
    }
    const bool leaves =
        sequence.state == SequenceState::kPreempting || sequence.state == SequenceState::kRetiring;
    LATENTD_CHECK(!leaves || sequence.in_flight > 0, "request {} leaves and does not go",
                  id.value());
    if (sequence.deadline_position != kNotInHeap) ++with_deadline;
    LATENTD_CHECK(
        (sequence.deadline_position != kNotInHeap) ==
            (sequence.state != SequenceState::kRetiring && sequence.request->deadline != kNever),
        "request {}: deadline", id.value());
  }
  LATENTD_CHECK(num_waiting == waiting.size(), "{} wait, counted {}", waiting.size(), num_waiting);
  LATENTD_CHECK(num_running == static_cast<int>(prompts.size() + decoding.size()),
                "{} prompts and {} decoding, counted {}", prompts.size(), decoding.size(),
                num_running);
  LATENTD_CHECK(leaving == num_leaving, "{} leave, counted {}", num_leaving, leaving);
  LATENTD_CHECK(announced == computing.size(), "{} units announced, counted {}", computing.size(),
                announced);
  LATENTD_CHECK(with_deadline == deadlines.size(), "{} deadlines, counted {}", deadlines.size(),
                with_deadline);
  LATENTD_CHECK(static_cast<std::size_t>(num_running + leaving) + free_slots.size() == slots.size(),
                "{} running, {} leaving, {} free slots", num_running, leaving, free_slots.size());
  LATENTD_CHECK(
      ranks_changed ||
          std::ranges::is_sorted(prompts, [](auto* a, auto* b) { return RunsBefore{}(*a, *b); }),
      "{} prompts are out of order", prompts.size());
}

}  // namespace latentd
