// Overcommit: promises cover what is known and grow as sequences do. When the cache has no page
// left, the last in order among the running goes back to the queue and is computed again later; the
// first in order is never preempted, so that something always comes to its end.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "scheduler/scheduler_state.h"

namespace latentd {

bool Scheduler::State::lacks_page(const Sequence& sequence) const {
  return blocks.pages_for_tokens(sequence.scheduled + 1) > sequence.pages->promised();
}

void Scheduler::State::grow_promises() {
  for (std::size_t index = 0; index < decoding.size();) {
    // A preemption changes the list: start over. Those that have grown lack nothing.
    index = grow(decoding[index]) ? index + 1 : 0;
  }
}

// False when a sequence was preempted.
bool Scheduler::State::grow(Sequence& sequence) {
  if (!sequence.wants_more() || !lacks_page(sequence)) return true;
  if (blocks.try_extend(*sequence.pages, 1)) return true;
  admitting = false;                 // pages that come free now are for those that run
  if (num_leaving > 0) return true;  // it goes without a row until those are gone
  Sequence* victim = &sequence;
  for (const auto* list : {&std::as_const(prompts), &decoding.sequences()}) {
    for (Sequence* running : *list) {
      if (WaitsBefore{}(*victim, *running)) victim = running;
    }
  }
  preempt(*victim);
  return false;
}

void Scheduler::State::preempt(Sequence& victim) {
  leave_lists(victim);
  ++victim.preemptions;
  ++counters.preemptions;
  ++num_leaving;
  victim.state = SequenceState::kPreempting;
  if (victim.in_flight == 0) requeue(victim);
}

// A preempted sequence of which nothing is in flight waits again, with the tokens it has.
void Scheduler::State::requeue(Sequence& sequence) {
  computing.settle(sequence, sequence.end_unit, waiting.woken());
  release_slot(sequence);
  sequence.slot = SlotId(-1);
  sequence.state = SequenceState::kWaiting;
  sequence.rank = sequence.priority;
  sequence.passed_since = kNever;
  sequence.computed = 0;
  sequence.scheduled = 0;
  waiting.push(sequence);
}

}  // namespace latentd
