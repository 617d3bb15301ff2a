// Sequence: the progress of one request, from submit until nothing of it is in flight.
//
//   waiting --admit--> running --finish--> retiring --nothing in flight--> gone
//      ^                  | (overcommit)
//      +-- nothing in flight -- preempting
//
// A cancelled or expired sequence goes to retiring from any state; a waiting one is gone at once.
//
// Positions: `computed` tokens have their latents in the cache and were committed; `scheduled` are
// computed once the plans in flight are. `pending` tokens are being sampled by plans in flight.
//
// Contract: private to the scheduler; plain data, changed by one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "kvcache/block_manager.h"
#include "kvcache/token_run.h"
#include "scheduler/indexed_heap.h"
#include "scheduler/request.h"

namespace latentd {

// A ring of links with a sentinel: an element leaves it without knowing which ring it is in.
struct ListLink {
  ListLink* previous = this;
  ListLink* next = this;

  ListLink() = default;
  ListLink(const ListLink&) = delete;
  ListLink& operator=(const ListLink&) = delete;
  bool alone() const { return next == this; }
  void unlink() {
    previous->next = next;
    next->previous = previous;
    previous = next = this;
  }
};

enum class SequenceState : std::uint8_t { kWaiting, kRunning, kPreempting, kRetiring };

// Where a waiting sequence waits.
enum class WaitingPlace : std::uint8_t { kNone, kReady, kPassed, kParked };

struct Sequence : ListLink {
  std::unique_ptr<Request> request;
  std::uint64_t arrival = 0;  // order of submission
  int priority = 0;           // request->priority
  SequenceState state = SequenceState::kWaiting;
  std::size_t deadline_position = kNotInHeap;

  // Waiting.
  WaitingPlace place = WaitingPlace::kNone;
  std::size_t ready_position = kNotInHeap;
  TimePoint passed_since = kNever;  // when it was first found not to fit

  // Tokens.
  std::vector<TokenId> generated;     // committed ones
  std::vector<std::uint64_t> hashes;  // prefix_hash of each full page that may be shared
  int prompt_tokens_reported = 1;     // prompt logprobs: the first prompt token has none

  // Running.
  int rank = 0;  // the priority it runs with: that of the most urgent request that waits for it
  SlotId slot{-1};
  SequencePages* pages = nullptr;  // the slot's
  int computed = 0;
  int scheduled = 0;
  int in_flight = 0;   // rows in uncommitted plans
  int pending = 0;     // 0 or 1
  int sent_pages = 0;  // entries of the page table that the runner knows
  int first_unit = 0;  // units [first_unit, end_unit) are announced as being computed
  int end_unit = 0;
  int preemptions = 0;
  int steps = 0;         // rows planned so far
  bool started = false;  // kStarted was sent

  int prompt_length() const { return static_cast<int>(request->prompt.size()); }
  int num_generated() const { return static_cast<int>(generated.size()); }
  int known() const { return prompt_length() + num_generated(); }
  // Whether one more token is to be sampled after those in flight.
  bool wants_more() const { return num_generated() + pending < request->max_new_tokens; }
  TokenRun tokens() const { return {request->prompt, generated}; }
  bool reports_prompt() const {
    return request->wants_prompt_logprobs && prompt_tokens_reported < prompt_length();
  }
};

// The order of the waiting queue and of prompts: urgent first, then by arrival.
struct WaitsBefore {
  bool operator()(const Sequence& a, const Sequence& b) const {
    return a.priority != b.priority ? a.priority < b.priority : a.arrival < b.arrival;
  }
};
struct RunsBefore {
  bool operator()(const Sequence& a, const Sequence& b) const {
    return a.rank != b.rank ? a.rank < b.rank : a.arrival < b.arrival;
  }
};
struct ExpiresBefore {
  bool operator()(const Sequence& a, const Sequence& b) const {
    const TimePoint left = a.request->deadline;
    const TimePoint right = b.request->deadline;
    return left != right ? left < right : a.arrival < b.arrival;
  }
};

// Sequences in the order in which they came. Does not own them.
class SequenceList final {
 public:
  bool empty() const { return head_.alone(); }
  Sequence& front() const { return static_cast<Sequence&>(*head_.next); }

  void push_back(Sequence& sequence) {
    sequence.previous = head_.previous;
    sequence.next = &head_;
    head_.previous->next = &sequence;
    head_.previous = &sequence;
  }

  // Moves all of `other` to the end, in O(1).
  void splice_back(SequenceList& other) {
    if (other.empty()) return;
    ListLink* first = other.head_.next;
    ListLink* last = other.head_.previous;
    other.head_.previous = other.head_.next = &other.head_;
    first->previous = head_.previous;
    last->next = &head_;
    head_.previous->next = first;
    head_.previous = last;
  }

 private:
  ListLink head_;
};

}  // namespace latentd
