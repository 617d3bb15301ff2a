// From waiting to running: the prefix hit, waiting for a prefix that is being computed, the
// promise, and passing a head that does not fit.
#include <algorithm>

#include "base/check.h"
#include "scheduler/scheduler_state.h"

namespace latentd {

Sequence* Scheduler::State::next_candidate() const {
  return free_slots.empty() ? nullptr : waiting.candidate();
}

// Whether admission goes on after the candidate.
bool Scheduler::State::consider(Sequence& candidate, std::size_t index, TimePoint now,
                                BatchPlan& out) {
  switch (try_admit(candidate, index, now, out)) {
    case Verdict::kAdmitted:
    case Verdict::kParked:
      return true;
    case Verdict::kNoBudget:
      return false;
    case Verdict::kDoesNotFit:
      break;
  }
  if (candidate.passed_since == kNever) candidate.passed_since = now;
  return now - candidate.passed_since < options.pass_limit && waiting.pass();
}

// Units of its tokens that a hit may cover: the last known token is always computed, for its
// logits.
int Scheduler::State::usable_units(const Sequence& candidate) const {
  if (candidate.reports_prompt()) return 0;  // needs the logits of every prompt token
  const int shared = static_cast<int>(candidate.hashes.size()) * blocks.page_tokens();
  return std::min(candidate.known() - 1, shared) / unit_tokens;
}

Verdict Scheduler::State::try_admit(Sequence& candidate, std::size_t index, TimePoint now,
                                    BatchPlan& out) {
  int promise = total_pages(*candidate.request);
  if (options.overcommit) {
    promise = std::min(promise, blocks.pages_for_tokens(candidate.known()) + 1);
  }
  const int units = usable_units(candidate);
  // Too large even with the best hit, which is cheap to know.
  if (promise - units * unit_pages > blocks.available()) return Verdict::kDoesNotFit;

  const PrefixHit hit = blocks.match(candidate.request->salt, candidate.tokens(), candidate.hashes,
                                     units * unit_pages, unit_pages);
  if (park_behind_leader(candidate, hit.pages / unit_pages, units)) return Verdict::kParked;
  if (!blocks.fits(promise, hit)) return Verdict::kDoesNotFit;
  if (piece(hit.pages * blocks.page_tokens(), candidate.known()) == 0) return Verdict::kNoBudget;

  admit(candidate, hit, promise, now, out);
  prompts.insert(prompts.begin() + static_cast<std::ptrdiff_t>(index), &candidate);
  return Verdict::kAdmitted;
}

bool Scheduler::State::park_behind_leader(Sequence& candidate, int unit, int end_unit) {
  if (unit >= end_unit) return false;
  Sequence* leader = computing.leader_of(computing.unit_hash(candidate, unit));
  if (leader == nullptr) return false;
  // The last unit that they have in common: prefix hashes agree up to there and nowhere after.
  int common = unit;
  int differs = std::min(end_unit, leader->end_unit);
  while (differs - common > 1) {
    const int middle = common + (differs - common) / 2;
    const bool equal =
        computing.unit_hash(candidate, middle) == computing.unit_hash(*leader, middle);
    (equal ? common : differs) = middle;
  }
  waiting.park(computing.waiters(*leader, common));
  // The leader runs for whoever waits for it, or a less urgent prompt could hold up a more urgent.
  if (candidate.priority < leader->rank) {
    leader->rank = candidate.priority;
    ranks_changed = true;
  }
  return true;
}

void Scheduler::State::admit(Sequence& candidate, const PrefixHit& hit, int promise, TimePoint now,
                             BatchPlan& out) {
  waiting.remove(candidate);
  candidate.state = SequenceState::kRunning;
  candidate.slot = free_slots.back();
  free_slots.pop_back();
  Slot& slot = slots[candidate.slot.index()];
  slot.sequence = &candidate;
  candidate.pages = &slot.pages;
  if (candidate.generated.capacity() == 0) candidate.generated.swap(slot.spare_tokens);
  candidate.generated.reserve(static_cast<std::size_t>(candidate.request->max_new_tokens));

  blocks.open(slot.pages, candidate.request->salt, hit, promise);
  const int hit_tokens = hit.pages * blocks.page_tokens();
  candidate.computed = hit_tokens;
  candidate.scheduled = hit_tokens;
  candidate.sent_pages = 0;
  const int publishable = static_cast<int>(candidate.hashes.size()) * blocks.page_tokens();
  computing.announce(candidate, hit.pages / unit_pages, publishable / unit_tokens);

  SlotStart start;
  start.slot = candidate.slot;
  start.request = candidate.request.get();
  start.first_generated = static_cast<std::int32_t>(out.tokens.size());
  start.num_generated = candidate.num_generated();
  out.tokens.insert(out.tokens.end(), candidate.generated.begin(), candidate.generated.end());
  out.starts.push_back(start);

  const int cached = std::min(hit_tokens, candidate.prompt_length());
  counters.prompt_tokens_cached += static_cast<std::uint64_t>(cached);
  if (candidate.started) return;
  candidate.started = true;
  if (options.prefix_cache) {
    counters.prefix_queried_tokens += static_cast<std::uint64_t>(candidate.prompt_length());
  }
  emit(Event::Kind::kStarted, candidate, now).cached_tokens = cached;
}

}  // namespace latentd
