// Scheduler::State: the scheduler's data and its steps, private to this folder.
//
//   scheduler.cc   submit, cancel, finish, release; the public methods
//   admission.cc   waiting -> running: prefix hit, compute-once, promise, passing
//   planning.cc    the rows of a step
//   overcommit.cc  growing promises and preemption
//   commit.cc      results: tokens, stops, publishing
//   invariants.cc  check_invariants
//
// Contract: as Scheduler's.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "scheduler/computing_registry.h"
#include "scheduler/decode_order.h"
#include "scheduler/indexed_heap.h"
#include "scheduler/scheduler.h"
#include "scheduler/sequence.h"
#include "scheduler/waiting_queue.h"

namespace latentd {

// A row of an uncommitted plan. The sequence lives until it is committed.
struct RowInFlight {
  Sequence* sequence = nullptr;
  int start = 0;
  int count = 0;
  bool samples = false;
  int prompt_logprobs = 0;  // of prompt tokens start + 1 ..
};

struct PlanInFlight {
  std::uint64_t step = 0;
  std::vector<RowInFlight> rows;
};

struct Slot {
  SequencePages pages;
  std::vector<TokenId> spare_tokens;  // memory for the generated tokens of its next sequence
  Sequence* sequence = nullptr;
};

enum class Verdict : std::uint8_t {
  kAdmitted,
  kParked,      // its next unit is being computed
  kDoesNotFit,  // not enough pages
  kNoBudget,    // not one piece of it fits in this step
};

struct Scheduler::State {
  State(const SchedulerOptions& scheduler_options, BlockManager& block_manager);

  // scheduler.cc
  Status check(const Request& request) const;
  void finish(Sequence& sequence, FinishReason reason, TimePoint now, TokenId stop_token = -1,
              Status error = {});
  void expire(TimePoint now);
  void leave_lists(Sequence& sequence);   // prompts / decoding
  void release_slot(Sequence& sequence);  // pages and slot; nothing of it is in flight
  void destroy(Sequence& sequence);
  void extend_hashes(Sequence& sequence);
  int publishable_tokens(const Sequence& sequence) const;
  int total_pages(const Request& request) const;  // that it will ever write

  // planning.cc
  bool plan(TimePoint now, BatchPlan& out);
  void plan_decode(BatchPlan& out);
  void plan_prompts(TimePoint now, BatchPlan& out);
  int piece(int start, int end) const;  // tokens of a prompt from `start` that fit in the step
  void add_row(Sequence& sequence, int count, BatchPlan& out);
  void send_pages(Sequence& sequence, BatchPlan& out);

  // admission.cc
  Sequence* next_candidate() const;
  bool consider(Sequence& candidate, std::size_t index, TimePoint now, BatchPlan& out);
  Verdict try_admit(Sequence& candidate, std::size_t index, TimePoint now, BatchPlan& out);
  bool park_behind_leader(Sequence& candidate, int unit, int end_unit);
  int usable_units(const Sequence& candidate) const;
  void admit(Sequence& candidate, const PrefixHit& hit, int promise, TimePoint now, BatchPlan& out);

  // overcommit.cc
  void grow_promises();
  bool lacks_page(const Sequence& sequence) const;
  bool grow(Sequence& sequence);
  void preempt(Sequence& victim);
  void requeue(Sequence& sequence);

  // commit.cc
  void commit(const StepResult& result, TimePoint now);
  bool commit_row(const RowInFlight& row, const StepResult& result, const RowResult& outcome,
                  TimePoint now);
  void publish(Sequence& sequence);
  void report_prompt(const RowInFlight& row, const StepResult& result, const RowResult& outcome,
                     TimePoint now);
  bool append_token(Sequence& sequence, const StepResult& result, const TokenOutcome& outcome,
                    TimePoint now);
  Event& emit(Event::Kind kind, const Sequence& sequence, TimePoint now);

  void check_invariants() const;

  const SchedulerOptions options;
  BlockManager& blocks;
  const int unit_tokens;  // a prefix hit is a multiple of it
  const int unit_pages;

  std::unordered_map<RequestId, std::unique_ptr<Sequence>> sequences;  // all, by id
  IndexedHeap<Sequence, &Sequence::deadline_position, ExpiresBefore> deadlines;
  WaitingQueue waiting;
  ComputingRegistry computing;
  std::uint64_t arrivals = 0;

  std::vector<Slot> slots;
  std::vector<SlotId> free_slots;
  std::vector<Sequence*> prompts;  // running, with tokens that no plan has yet; in RunsBefore order
  DecodeOrder decoding;            // running, one token at a time
  bool ranks_changed = false;      // prompts is to be sorted before the next step
  int num_leaving = 0;             // preempting or retiring

  std::vector<TokenId> scratch;    // one page of tokens
  std::vector<int> shared_tokens;  // tokens that decode rows share with the row before

  // The step that is being planned.
  int budget = 0;
  bool admitting = false;

  std::array<PlanInFlight, 2> ring;
  std::size_t oldest = 0;
  int num_in_flight = 0;
  std::vector<Event> events;
  SchedulerStats counters;  // the growing ones
};

}  // namespace latentd
