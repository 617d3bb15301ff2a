// FakeRunner: a model runner without a model. Its cache holds, for every position, a hash of the
// tokens up to there, and it "samples" a hash of all that a row sees through its page table: any
// mix-up of pages, tokens or slots changes the text.
//
// It also keeps what each slot ought to see and ends the process when a row reads what was written
// for another prefix, reads what nobody wrote (pages are poisoned when they are first taken over),
// writes where something is written already, or is said to share a prefix that it does not have.
//
// Contract: as a real runner's: forward(n + 1) may come before n is committed, sample(n + 1) only
// after it; one thread.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_set>
#include <vector>

#include "base/ids.h"
#include "scheduler/batch_plan.h"
#include "scheduler/request.h"
#include "scheduler/scheduler.h"

namespace latentd {

class FakeRunner final {
 public:
  static constexpr int kVocab = 64;
  static constexpr int kMaskWords = kVocab / 32;

  FakeRunner(int num_pages, int page_tokens, int num_slots, int max_tokens);

  // Applies the plan's changes and computes its tokens.
  void forward(const BatchPlan& plan);
  // Draws the plan's tokens; masks come from the constraints of what still runs.
  void sample(const BatchPlan& plan, Scheduler& scheduler, StepResult& result);

  // Rows of these requests that reach `failing_position` fail.
  std::unordered_set<RequestId> failing;
  int failing_position = 0;

  std::uint64_t tokens_computed() const { return tokens_computed_; }
  // The page table of a slot, as the plans have it.
  std::span<const PageId> pages(SlotId slot) const { return slots_[slot.index()].pages; }
  // Of the slot's last sequence, which may have ended.
  int prompt_tokens(SlotId slot) const { return slots_[slot.index()].prompt_tokens; }

  // What `request` must generate whatever shares its steps. A constraint is advanced.
  static std::vector<TokenId> expected_text(const Request& request, TokenConstraint* constraint);
  // The logprob of prompt token `position`.
  static float expected_prompt_logprob(const Request& request, int position);

 private:
  struct Entry {
    std::uint64_t value = 0;
    bool written = false;
  };
  struct SlotState {
    const Request* request = nullptr;
    int prompt_tokens = 0;
    bool failed = false;  // a row failed: what follows has no meaning and will be dropped
    std::vector<PageId> pages;
    std::vector<TokenId> tokens;         // prompt and generated, as far as the runner knows
    std::vector<std::uint64_t> values;   // what the cache must hold at each computed position
    std::uint64_t seen = 0;              // fold over all visible values, of the last row
    std::vector<std::uint64_t> seen_at;  // the same at each of the last row's tokens
  };

  void apply_starts(const BatchPlan& plan);
  void apply_page_changes(const BatchPlan& plan);
  void check_prefixes(const BatchPlan& plan) const;
  void compute_row(const BatchPlan& plan, const PlanRow& row);
  Entry& entry(const SlotState& slot, int position);
  void report_prompt(const PlanRow& row, const SlotState& slot, RowResult& outcome,
                     StepResult& result) const;

  const int page_tokens_;
  const int max_tokens_;
  std::vector<Entry> cache_;  // [pages, page_tokens]
  std::vector<SlotState> slots_;
  std::vector<int> row_starts_;  // [slots], of the plan at hand; -1 without a row
  std::uint64_t last_step_ = 0;
  std::uint64_t tokens_computed_ = 0;
};

}  // namespace latentd
