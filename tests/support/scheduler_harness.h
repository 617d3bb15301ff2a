// SchedulerHarness: a scheduler, its cache and a FakeRunner, driven as the engine drives them, with
// all invariants checked after every step.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "kvcache/block_manager.h"
#include "scheduler/scheduler.h"
#include "tests/support/fake_runner.h"

namespace latentd {

// Allows only even tokens, or tokens of one residue; complete after `length` tokens; refuses the
// token `poison`.
class ResidueConstraint final : public TokenConstraint {
 public:
  explicit ResidueConstraint(int length, TokenId poison = -1) : left_(length), poison_(poison) {}
  bool accept(TokenId token) override {
    if (token == poison_ || token % 4 != step_ % 4) return false;
    ++step_;
    --left_;
    return true;
  }
  void fill_mask(std::span<std::uint32_t> words) const override {
    for (std::uint32_t& word : words) word = 0x11111111U << (step_ % 4);
  }
  bool complete() const override { return left_ == 0; }

 private:
  int step_ = 0;
  int left_;
  TokenId poison_;
};

// All that a client has heard of a request.
struct Heard {
  std::vector<TokenId> text;
  std::vector<TokenLogprob> prompt_logprobs;
  std::optional<FinishReason> finished;
  Status error;
  TokenId stop_token = -1;
  int started = 0;
  int cached_tokens = 0;
  int preemptions = 0;
  TimePoint started_at{};
};

struct HarnessOptions {
  int num_pages = 64;
  int page_tokens = 16;
  SchedulerOptions scheduler;
};

class SchedulerHarness final {
 public:
  explicit SchedulerHarness(const HarnessOptions& options);

  // One turn of the engine's loop: plan, launch, commit the oldest, sample. False when there was
  // nothing to plan and nothing to commit.
  bool turn();
  // Turns until nothing is alive. Ends the process when the scheduler has work and plans none.
  void run();
  // Turns until `count` plans were made in all.
  void run_steps(int count);

  RequestId submit(std::unique_ptr<Request> request);
  void cancel(RequestId id) { scheduler.cancel(id, FinishReason::kCancelled, now); }
  const Heard& heard(RequestId id) { return heard_[id]; }
  void forget(RequestId id) { heard_.erase(id); }
  void listen();  // takes the events that are there
  const BatchPlan& last_plan() const { return plans_[newest_]; }
  int uncommitted() const { return uncommitted_; }

  BlockManager blocks;
  Scheduler scheduler;
  FakeRunner runner;
  TimePoint now{};
  Duration step_time = std::chrono::milliseconds(10);
  bool check_always = true;

 private:
  void commit_oldest();

  const int depth_;
  std::array<BatchPlan, 2> plans_;
  std::array<StepResult, 2> results_;
  std::size_t newest_ = 1;
  int uncommitted_ = 0;
  std::vector<Event> events_;
  std::map<RequestId, Heard> heard_;
};

// A request of `prompt_length` tokens that depend on `seed` alone.
std::unique_ptr<Request> make_request(std::uint64_t id, int prompt_length, int max_new_tokens,
                                      std::uint64_t seed);

}  // namespace latentd
