// Scheduler: which tokens of which sequences are computed next.
//
// Pure bookkeeping: no clock (time is an argument), no randomness, no log, no lock, no device. The
// same calls give the same plans. One thread, the engine's.
//
//   submit / cancel ... schedule(now, plan n+1) ... commit(result n, now) ... drain_events
//
// At pipeline depth d, up to d plans may be scheduled and not yet committed; results are committed
// in order.
//
// Rules (normative text: docs/ARCHITECTURE.md):
//   - Admission is exact: a sequence is admitted when pages for its prompt and max_new_tokens are
//   promised, so that
//     nothing is preempted and nothing runs out. `overcommit` trades that for preemption by
//     recompute.
//   - A head of the queue that does not fit may be passed for `pass_limit`; then admission waits
//   for it.
//   - A prompt is computed once: a request whose next full page is being computed by another waits
//   for it.
//   - A finished sequence may own a row in a plan in flight: that result is dropped, and its pages
//   and slot are
//     released only when nothing of it is in flight.
//   - schedule never scans the waiting queue: its cost does not depend on how many wait.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/status.h"
#include "kvcache/block_manager.h"
#include "scheduler/batch_plan.h"
#include "scheduler/request.h"
#include "scheduler/shared_prefixes.h"

namespace latentd {

struct SchedulerOptions {
  int max_num_seqs = 256;             // slots: sequences running at once
  int max_num_batched_tokens = 2048;  // token budget of one step; at least max_num_seqs
  int max_model_len = 0;              // positions a sequence may occupy, prompt and output
  int pipeline_depth = 1;             // 1 or 2
  bool prefix_cache = true;
  bool overcommit = false;
  Duration pass_limit = std::chrono::seconds(10);  // docs/adr/0002-passing.md
  // > 0: pieces of a prompt end at multiples of this position (or at its end), and prefix hits are
  // rounded down to it.
  int prefill_alignment = 0;
  // Whether pages that hold sampled tokens enter the prefix cache.
  bool publish_generated = true;
  PrefixPolicy prefixes;  // of plans; none unless asked for
};

enum class FinishReason : std::uint8_t { kStop, kLength, kCancelled, kDeadline, kError };

// What a client has to hear of. Events of one request are in order; kFinished is its last and comes
// exactly once.
struct Event {
  enum class Kind : std::uint8_t {
    kStarted,        // admitted to a slot: the wait in the queue is over
    kPromptLogprob,  // of the next prompt token (from the second on), when the request wants them
    kToken,          // a newly sampled token
    kFinished,
  };

  Kind kind = Kind::kStarted;
  RequestId request;
  TimePoint time{};  // `now` of the call that caused it
  int steps = 0;     // plans in which the sequence has had a row

  // kPromptLogprob, kToken. logprob is meaningful, and `top` filled, only when the request wants
  // them.
  TokenLogprob token;
  std::vector<TokenLogprob> top;

  int cached_tokens = 0;  // kStarted: prompt tokens that a prefix hit spared

  // kFinished
  FinishReason reason = FinishReason::kStop;
  TokenId stop_token =
      -1;        // the stop token that ended it (it had its kToken event too); -1 otherwise
  Status error;  // when reason is kError
  int preemptions = 0;
};

// Counters and gauges, for publishing once a step. Counters only grow.
struct SchedulerStats {
  int num_waiting = 0;
  int num_running = 0;
  std::uint64_t steps = 0;
  std::uint64_t prompt_tokens_computed = 0;
  std::uint64_t prompt_tokens_cached = 0;
  std::uint64_t generated_tokens = 0;
  std::uint64_t preemptions = 0;
  std::uint64_t prefix_queried_tokens = 0;
  BlockManagerStats blocks;
};

class Scheduler {
 public:
  // REQUIRES: `blocks` outlives the scheduler; options are valid (validate()).
  Scheduler(const SchedulerOptions& options, BlockManager& blocks);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  static Status validate(const SchedulerOptions& options);

  // kInvalidArgument when the request could never run: an empty prompt, prompt and max_new_tokens
  // beyond max_model_len, or more pages than the whole cache has (the message gives both numbers).
  // Reads only what never changes: any thread may ask.
  Status check(const Request& request) const;

  // Takes a request into the waiting queue. Errors of check(); kAlreadyExists for an id that is
  // alive or of which something is still in flight.
  Status submit(std::unique_ptr<Request> request, TimePoint now);

  // Ends a request in whatever state it is; unknown or finished ids are ignored. kFinished follows
  // at once, the pages within pipeline_depth commits.
  void cancel(RequestId id, FinishReason reason, TimePoint now);

  // Ends every request that is alive, in order of arrival, as `cancel` does; `error` goes into the
  // events when `reason` is kError. For the end of an engine, wanted or not.
  void cancel_all(FinishReason reason, const Status& error, TimePoint now);

  // Fills `plan` (cleared first) with the next step. False when there is nothing to compute now.
  // REQUIRES: fewer than pipeline_depth plans are uncommitted.
  bool schedule(TimePoint now, BatchPlan& plan);

  // Applies the result of the oldest uncommitted plan. REQUIRES: result.step is that plan's.
  void commit(const StepResult& result, TimePoint now);

  // Moves the events since the last call to the end of `out`.
  void drain_events(std::vector<Event>& out);

  // When schedule may have work that no submit or commit brings: the earliest deadline; kNever when
  // there is none. (The end of a pass limit only holds others back, so it needs no wake-up.)
  TimePoint next_wakeup() const;

  // The request that runs in `slot`, for its constraint. Null when the slot's sequence is retiring.
  Request* running_request(SlotId slot);

  bool idle() const;  // nothing waiting, running or retiring
  SchedulerStats stats() const;

  // Aborts the process when any invariant is broken: O(everything), for tests and idle moments.
  void check_invariants() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace latentd
