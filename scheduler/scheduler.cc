#include "scheduler/scheduler.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "scheduler/scheduler_state.h"

namespace latentd {
namespace {

// Generated tokens that every slot has memory for from the start: the default limit of a chat.
constexpr int kReservedTokens = 4096;

int hit_unit(const SchedulerOptions& options, const BlockManager& blocks) {
  return std::lcm(std::max(options.prefill_alignment, 1), blocks.page_tokens());
}

}  // namespace

Scheduler::State::State(const SchedulerOptions& scheduler_options, BlockManager& block_manager)
    : options(scheduler_options),
      blocks(block_manager),
      unit_tokens(hit_unit(options, blocks)),
      unit_pages(unit_tokens / blocks.page_tokens()),
      computing(blocks.num_pages(), unit_pages),
      slots(static_cast<std::size_t>(options.max_num_seqs)),
      decoding(blocks),
      scratch(static_cast<std::size_t>(blocks.page_tokens())) {
  const int max_pages =
      std::min(blocks.num_pages(), blocks.pages_for_tokens(options.max_model_len));
  for (Slot& slot : slots) {
    slot.pages.reserve(max_pages);
    slot.spare_tokens.reserve(
        static_cast<std::size_t>(std::min(options.max_model_len, kReservedTokens)));
  }
  free_slots.reserve(slots.size());
  for (int slot = options.max_num_seqs - 1; slot >= 0; --slot) free_slots.push_back(SlotId(slot));
  prompts.reserve(slots.size());
  decoding.reserve(slots.size());
  shared_tokens.reserve(slots.size());
  for (PlanInFlight& in_flight : ring) in_flight.rows.reserve(slots.size());
  events.reserve(4 * slots.size());
}

int Scheduler::State::total_pages(const Request& request) const {
  // The last token that is sampled is never computed.
  const int written =
      static_cast<int>(request.prompt.size()) + std::max(request.max_new_tokens, 1) - 1;
  return blocks.pages_for_tokens(written);
}

Status Scheduler::State::check(const Request& request) const {
  if (request.prompt.empty()) return invalid_argument("prompt", "must have at least one token");
  if (request.max_new_tokens < 0) {
    return invalid_argument("max_tokens",
                            fmt::format("must be at least 0, got {}", request.max_new_tokens));
  }
  const auto length = static_cast<std::int64_t>(request.prompt.size()) + request.max_new_tokens;
  if (length > options.max_model_len) {
    return invalid_argument(
        "max_tokens",
        fmt::format("a prompt of {} tokens and {} new tokens are {}; the context has {}",
                    request.prompt.size(), request.max_new_tokens, length, options.max_model_len));
  }
  if (const int pages = total_pages(request); pages > blocks.num_pages()) {
    return invalid_argument(
        "max_tokens", fmt::format("a prompt of {} tokens and {} new tokens need {} pages of {} "
                                  "tokens; the cache has {}",
                                  request.prompt.size(), request.max_new_tokens, pages,
                                  blocks.page_tokens(), blocks.num_pages()));
  }
  return ok_status();
}

int Scheduler::State::publishable_tokens(const Sequence& sequence) const {
  if (!options.prefix_cache) return 0;
  return options.publish_generated ? sequence.known() : sequence.prompt_length();
}

void Scheduler::State::extend_hashes(Sequence& sequence) {
  const auto page = static_cast<std::size_t>(blocks.page_tokens());
  const auto limit = static_cast<std::size_t>(publishable_tokens(sequence));
  while ((sequence.hashes.size() + 1) * page <= limit) {
    const std::uint64_t previous =
        sequence.hashes.empty() ? sequence.request->salt : sequence.hashes.back();
    const auto tokens = sequence.tokens().slice(sequence.hashes.size() * page, scratch);
    sequence.hashes.push_back(prefix_hash(previous, tokens));
  }
}

void Scheduler::State::finish(Sequence& sequence, FinishReason reason, TimePoint now,
                              TokenId stop_token, Status error) {
  Event& event = emit(Event::Kind::kFinished, sequence, now);
  event.reason = reason;
  event.stop_token = stop_token;
  event.error = std::move(error);
  event.preemptions = sequence.preemptions;
  if (deadlines.contains(sequence)) deadlines.erase(sequence);

  if (sequence.state == SequenceState::kWaiting) {
    waiting.remove(sequence);
    destroy(sequence);
    return;
  }
  if (sequence.state == SequenceState::kRunning) {
    leave_lists(sequence);
    ++num_leaving;
  }
  sequence.state = SequenceState::kRetiring;
  // What it has not published it never will: whoever waited for it computes it.
  computing.settle(sequence, sequence.end_unit, waiting.woken());
  if (sequence.in_flight == 0) {
    release_slot(sequence);
    destroy(sequence);
  }
}

void Scheduler::State::expire(TimePoint now) {
  while (!deadlines.empty() && deadlines.top().request->deadline <= now) {
    finish(deadlines.top(), FinishReason::kDeadline, now);
  }
}

void Scheduler::State::leave_lists(Sequence& sequence) {
  if (!decoding.erase(sequence)) std::erase(prompts, &sequence);
}

void Scheduler::State::release_slot(Sequence& sequence) {
  Slot& slot = slots[sequence.slot.index()];
  LATENTD_CHECK(sequence.in_flight == 0, "{} rows are in flight", sequence.in_flight);
  blocks.release(slot.pages);
  slot.sequence = nullptr;
  free_slots.push_back(sequence.slot);
  sequence.pages = nullptr;
  --num_leaving;
}

void Scheduler::State::destroy(Sequence& sequence) {
  if (sequence.slot.value() >= 0) {
    std::vector<TokenId>& spare = slots[sequence.slot.index()].spare_tokens;
    if (sequence.generated.capacity() > spare.capacity()) {
      spare.swap(sequence.generated);
      spare.clear();
    }
  }
  sequences.erase(sequence.request->id);
}

Event& Scheduler::State::emit(Event::Kind kind, const Sequence& sequence, TimePoint now) {
  Event& event = events.emplace_back();
  event.kind = kind;
  event.request = sequence.request->id;
  event.time = now;
  event.steps = sequence.steps;
  return event;
}

Scheduler::Scheduler(const SchedulerOptions& options, BlockManager& blocks) {
  const Status valid = validate(options);
  LATENTD_CHECK(valid.ok(), "{}", valid.to_string());
  state_ = std::make_unique<State>(options, blocks);
}

Scheduler::~Scheduler() {
  for (Slot& slot : state_->slots) {
    if (slot.pages.is_open()) state_->blocks.release(slot.pages);
  }
}

Status Scheduler::validate(const SchedulerOptions& options) {
  const auto at_least = [](const char* field, int value, int limit) {
    return value >= limit
               ? ok_status()
               : invalid_argument(field, fmt::format("must be at least {}, got {}", limit, value));
  };
  LATENTD_RETURN_IF_ERROR(at_least("max_num_seqs", options.max_num_seqs, 1));
  LATENTD_RETURN_IF_ERROR(at_least("prefill_alignment", options.prefill_alignment, 0));
  LATENTD_RETURN_IF_ERROR(at_least("max_num_batched_tokens", options.max_num_batched_tokens,
                                   std::max(options.max_num_seqs, options.prefill_alignment)));
  LATENTD_RETURN_IF_ERROR(at_least("max_model_len", options.max_model_len, 1));
  if (options.pipeline_depth != 1 && options.pipeline_depth != 2) {
    return invalid_argument("pipeline_depth",
                            fmt::format("must be 1 or 2, got {}", options.pipeline_depth));
  }
  if (options.pass_limit < Duration::zero()) {
    return invalid_argument("pass_limit", "must not be negative");
  }
  return ok_status();
}

Status Scheduler::check(const Request& request) const { return state_->check(request); }

Status Scheduler::submit(std::unique_ptr<Request> request, TimePoint now) {
  State& state = *state_;
  LATENTD_RETURN_IF_ERROR(state.check(*request));
  const RequestId id = request->id;
  if (state.sequences.contains(id)) {
    return Status(StatusCode::kAlreadyExists, fmt::format("request {} is alive", id.value()));
  }
  auto sequence = std::make_unique<Sequence>();
  sequence->priority = request->priority;
  sequence->rank = request->priority;
  sequence->arrival = state.arrivals++;
  sequence->request = std::move(request);
  if (state.options.prefix_cache) {
    sequence->hashes.reserve(static_cast<std::size_t>(state.total_pages(*sequence->request)) + 1);
    state.extend_hashes(*sequence);
  }
  Sequence& added = *sequence;
  state.sequences.emplace(id, std::move(sequence));
  state.waiting.push(added);
  if (added.request->deadline != kNever) state.deadlines.push(added);
  state.expire(now);
  return ok_status();
}

void Scheduler::cancel(RequestId id, FinishReason reason, TimePoint now) {
  const auto found = state_->sequences.find(id);
  if (found == state_->sequences.end()) return;
  Sequence& sequence = *found->second;
  if (sequence.state == SequenceState::kRetiring) return;
  Status error;
  if (reason == FinishReason::kError) {
    error = Status(StatusCode::kUnavailable, "the engine failed while the request was in it");
  }
  state_->finish(sequence, reason, now, -1, std::move(error));
}

void Scheduler::cancel_all(FinishReason reason, const Status& error, TimePoint now) {
  std::vector<Sequence*> alive;
  for (const auto& [id, sequence] : state_->sequences) {
    if (sequence->state != SequenceState::kRetiring) alive.push_back(sequence.get());
  }
  std::sort(alive.begin(), alive.end(),
            [](const Sequence* a, const Sequence* b) { return a->arrival < b->arrival; });
  for (Sequence* sequence : alive) {
    state_->finish(*sequence, reason, now, -1, reason == FinishReason::kError ? error : Status());
  }
}

bool Scheduler::schedule(TimePoint now, BatchPlan& plan) { return state_->plan(now, plan); }

void Scheduler::commit(const StepResult& result, TimePoint now) { state_->commit(result, now); }

void Scheduler::drain_events(std::vector<Event>& out) {
  if (out.empty()) {
    out.swap(state_->events);
    return;
  }
  out.insert(out.end(), std::make_move_iterator(state_->events.begin()),
             std::make_move_iterator(state_->events.end()));
  state_->events.clear();
}

TimePoint Scheduler::next_wakeup() const {
  return state_->deadlines.empty() ? kNever : state_->deadlines.top().request->deadline;
}

Request* Scheduler::running_request(SlotId slot) {
  const Sequence* sequence = state_->slots[slot.index()].sequence;
  if (sequence == nullptr || sequence->state == SequenceState::kRetiring) return nullptr;
  return sequence->request.get();
}

bool Scheduler::idle() const { return state_->sequences.empty(); }

SchedulerStats Scheduler::stats() const {
  SchedulerStats stats = state_->counters;
  stats.num_waiting = state_->waiting.size();
  stats.num_running = static_cast<int>(state_->prompts.size() + state_->decoding.size());
  stats.blocks = state_->blocks.stats();
  return stats;
}

void Scheduler::check_invariants() const { state_->check_invariants(); }

}  // namespace latentd
