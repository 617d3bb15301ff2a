// WaitingQueue: requests that have no slot, in order of priority and arrival.
//
// A sequence is ready (in a heap), passed (a head that did not fit: a short list that is tried
// again each step), or parked (it waits for another sequence to compute its prefix; or it was woken
// and has not come back to the heap yet). Admission walks candidates() in order; nothing here costs
// more when more wait, but for the heap's log n.
//
// Contract: private to the scheduler; does not own the sequences; allocates only in push.
#pragma once

#include <cstddef>
#include <vector>

#include "scheduler/indexed_heap.h"
#include "scheduler/sequence.h"

namespace latentd {

class WaitingQueue final {
 public:
  // Heads that may be passed at a time: bounds what a step pays for requests that do not fit.
  static constexpr std::size_t kMaxPassed = 8;

  WaitingQueue() { passed_.reserve(kMaxPassed); }

  void push(Sequence& sequence);
  void remove(Sequence& sequence);  // wherever it waits
  int size() const { return size_; }

  // The walk of one step: restart, then look at candidate() until it is null, each time removing
  // (admitted), passing or parking it.
  void restart() { cursor_ = 0; }
  Sequence* candidate() const;
  // Sets the candidate aside until the next walk; false when no more can be, and it stays.
  bool pass();
  // The candidate waits in `waiters` until those are spliced to woken().
  void park(SequenceList& waiters);

  SequenceList& woken() { return woken_; }
  // Brings at most `limit` woken sequences back to the heap.
  void return_woken(int limit);

  void check_invariants() const;

 private:
  void detach(Sequence& sequence);

  IndexedHeap<Sequence, &Sequence::ready_position, WaitsBefore> ready_;
  std::vector<Sequence*> passed_;  // in order
  std::size_t cursor_ = 0;         // passed_[0, cursor_) were tried in this walk
  SequenceList woken_;
  int size_ = 0;
};

}  // namespace latentd
