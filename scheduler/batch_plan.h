// BatchPlan: what one step computes. StepResult: what came of it.
//
// Both are plain values, printable and comparable, reused so that a steady state allocates nothing.
// A plan carries changes, not copies: what a slot already knows (its page table, length, last
// token, token counts, sampling parameters) lives in the runner, on the device.
//
// There are no phases: a row with many tokens is a piece of a prompt, a row with one is a decode
// step.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/status.h"

namespace latentd {

struct Request;

enum class LogitsWanted : std::uint8_t {
  kNone,  // a piece of a prompt that does not reach its end
  kLast,  // of the row's last token
  kAll,   // of every token of the row (prompt logprobs)
};

// A slot is given to a sequence: everything that the runner knew of it is void.
struct SlotStart {
  SlotId slot;
  // Valid until the slot's sequence retires, which is after every step that names it was waited
  // for.
  const Request* request = nullptr;
  // Tokens generated before, when a preempted sequence comes back: plan.tokens[first_generated ..].
  std::int32_t first_generated = 0;
  std::int32_t num_generated = 0;

  friend bool operator==(const SlotStart&, const SlotStart&) = default;
};

// Entries [first_index, first_index + num_pages) of the slot's page table become
// plan.pages[first_page ..].
struct PageTableChange {
  SlotId slot;
  std::int32_t first_index = 0;
  std::int32_t num_pages = 0;
  std::int32_t first_page = 0;

  friend bool operator==(const PageTableChange&, const PageTableChange&) = default;
};

// `count` tokens of the slot's sequence, at positions start .. start + count - 1.
struct PlanRow {
  SlotId slot;
  std::int32_t start = 0;
  std::int32_t count = 0;
  LogitsWanted logits = LogitsWanted::kNone;
  bool samples = false;  // draw the token that follows the row's last one
  // The row's one token was sampled by the step before and is still on the device (count == 1);
  // otherwise its tokens are plan.tokens[first_token .. first_token + count - 1].
  bool pending_token = false;
  std::int32_t first_token = 0;
  std::int32_t prefix = -1;  // the innermost of plan.prefixes that holds the row; -1: none

  friend bool operator==(const PlanRow&, const PlanRow&) = default;
};

// Rows [first_row, first_row + num_rows), decode rows of one token, have positions [begin, end) in
// the same pages, all before their own token.
struct SharedPrefix {
  std::int32_t first_row = 0;
  std::int32_t num_rows = 0;
  std::int32_t begin = 0;
  std::int32_t end = 0;
  std::int32_t parent = -1;  // the prefix that ends at `begin` and holds these rows and more

  friend bool operator==(const SharedPrefix&, const SharedPrefix&) = default;
};

struct BatchPlan {
  std::uint64_t step = 0;  // counts up by one
  std::vector<SlotStart> starts;
  std::vector<PageTableChange> page_changes;
  std::vector<PlanRow> rows;           // decode rows first; at most one per slot
  std::vector<SharedPrefix> prefixes;  // a parent before what it holds; fewer than rows
  std::vector<TokenId> tokens;
  std::vector<PageId> pages;

  int num_tokens() const {
    int count = 0;
    for (const PlanRow& row : rows) count += row.count;
    return count;
  }
  bool empty() const { return rows.empty(); }
  void clear();  // keeps the memory
  std::string to_string() const;

  friend bool operator==(const BatchPlan&, const BatchPlan&) = default;
};

struct TokenLogprob {
  TokenId token = -1;
  float logprob = 0.0F;  // natural logarithm, of the model's own distribution (before penalties and
                         // temperature)

  friend bool operator==(const TokenLogprob&, const TokenLogprob&) = default;
};

// A token, its logprob, and the most likely alternatives: result.top_logprobs[first_top ..
// first_top + num_top).
struct TokenOutcome {
  TokenLogprob token;
  std::int32_t first_top = 0;
  std::int32_t num_top = 0;

  friend bool operator==(const TokenOutcome&, const TokenOutcome&) = default;
};

struct RowResult {
  // Not kOk: this row alone failed, and nothing was sampled. kInternal: its logits were not finite;
  // kFailedPrecondition: its request's constraints leave no token to draw.
  StatusCode status = StatusCode::kOk;
  bool sampled = false;
  TokenOutcome sample;
  // Of the prompt tokens that follow the row's tokens, for rows with LogitsWanted::kAll: token
  // start + 1 + i has result.prompt_logprobs[first_prompt + i].
  std::int32_t first_prompt = 0;
  std::int32_t num_prompt = 0;

  friend bool operator==(const RowResult&, const RowResult&) = default;
};

struct StepResult {
  std::uint64_t step = 0;
  std::vector<RowResult> rows;  // rows[i] is the outcome of plan.rows[i]
  std::vector<TokenOutcome> prompt_logprobs;
  std::vector<TokenLogprob> top_logprobs;

  void clear();  // keeps the memory

  friend bool operator==(const StepResult&, const StepResult&) = default;
};

}  // namespace latentd
