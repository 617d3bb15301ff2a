#include "scheduler/waiting_queue.h"

#include <algorithm>

#include "base/check.h"

namespace latentd {

void WaitingQueue::push(Sequence& sequence) {
  LATENTD_CHECK(sequence.place == WaitingPlace::kNone, "the sequence waits already");
  ready_.push(sequence);
  sequence.place = WaitingPlace::kReady;
  ++size_;
}

void WaitingQueue::detach(Sequence& sequence) {
  switch (sequence.place) {
    case WaitingPlace::kReady:
      ready_.erase(sequence);
      break;
    case WaitingPlace::kPassed: {
      const auto at = std::ranges::find(passed_, &sequence);
      if (static_cast<std::size_t>(at - passed_.begin()) < cursor_) --cursor_;
      passed_.erase(at);
      break;
    }
    case WaitingPlace::kParked:
      sequence.unlink();
      break;
    case WaitingPlace::kNone:
      LATENTD_CHECK(false, "the sequence does not wait");
  }
  sequence.place = WaitingPlace::kNone;
}

void WaitingQueue::remove(Sequence& sequence) {
  detach(sequence);
  --size_;
}

Sequence* WaitingQueue::candidate() const {
  Sequence* passed = cursor_ < passed_.size() ? passed_[cursor_] : nullptr;
  Sequence* ready = ready_.empty() ? nullptr : &ready_.top();
  if (passed == nullptr || ready == nullptr) return passed != nullptr ? passed : ready;
  return WaitsBefore{}(*passed, *ready) ? passed : ready;
}

bool WaitingQueue::pass() {
  Sequence& sequence = *candidate();
  if (sequence.place == WaitingPlace::kReady) {
    if (passed_.size() == kMaxPassed) return false;
    ready_.erase(sequence);
    passed_.insert(passed_.begin() + static_cast<std::ptrdiff_t>(cursor_), &sequence);
    sequence.place = WaitingPlace::kPassed;
  }
  ++cursor_;
  return true;
}

void WaitingQueue::park(SequenceList& waiters) {
  Sequence& sequence = *candidate();
  detach(sequence);
  waiters.push_back(sequence);
  sequence.place = WaitingPlace::kParked;
}

void WaitingQueue::return_woken(int limit) {
  for (int i = 0; i < limit && !woken_.empty(); ++i) {
    Sequence& sequence = woken_.front();
    sequence.unlink();
    ready_.push(sequence);
    sequence.place = WaitingPlace::kReady;
  }
}

void WaitingQueue::check_invariants() const {
  ready_.check_invariants();
  LATENTD_CHECK(passed_.size() <= kMaxPassed && cursor_ <= passed_.size(), "{} passed, cursor {}",
                passed_.size(), cursor_);
  LATENTD_CHECK(ready_.size() + passed_.size() <= static_cast<std::size_t>(size_),
                "{} ready, {} passed, {} in all", ready_.size(), passed_.size(), size_);
  for (std::size_t i = 0; i < passed_.size(); ++i) {
    LATENTD_CHECK(passed_[i]->place == WaitingPlace::kPassed, "passed sequence {}", i);
    LATENTD_CHECK(i == 0 || WaitsBefore{}(*passed_[i - 1], *passed_[i]), "passed order at {}", i);
  }
}

}  // namespace latentd
