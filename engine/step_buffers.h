// StepBuffers: the inputs and outcomes of one step in flight. The runner has a ring of two.
//
// Contract: owned and used by ModelRunner. The host sides may be refilled only when the step that
// used them before was waited for; the ring and the pipeline depth of two guarantee it.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "engine/backend/op_params.h"
#include "engine/staged_array.h"

namespace latentd {

struct StepLimits {
  std::size_t max_tokens = 0;  // tokens, and rows of logits, of a step
  std::size_t max_seqs = 0;    // slots
  std::size_t max_page_updates = 0;
  std::size_t mask_words = 0;  // of one row
  std::size_t max_edits = 0;   // logit edits of a step
};

// Which rows of logits belong to a row of the plan, kept on the host until the step is waited for.
struct RowLogits {
  std::int32_t first_target = 0;  // outcomes of prompt tokens
  std::int32_t num_targets = 0;
  std::int32_t sample = -1;      // outcome of the draw; -1: none
  bool nothing_allowed = false;  // the request's constraints leave no token to draw
};

struct StepBuffers {
  std::uint64_t step = 0;
  Fence done;
  std::vector<RowLogits> row_logits;  // [rows of the plan]

  // forward
  StagedArray<TokenId> tokens;             // [T]; -1: the slot's last token
  StagedArray<std::int32_t> positions;     // [T]
  StagedArray<std::int32_t> token_slots;   // [T]
  StagedArray<RowView> rows;               // [R]
  StagedArray<PrefixView> prefixes;        // [R], of which the plan's come first
  StagedArray<std::int32_t> row_prefixes;  // [R]
  StagedArray<SlotUpdate> updates;         // page-table entries
  // sample
  StagedArray<std::int32_t> logit_tokens;  // [L]: index of the token whose logits are wanted
  StagedArray<SampleRow> sample_rows;      // [L]
  StagedArray<std::uint32_t> masks;        // [masked rows, mask_words]
  StagedArray<LogitEdit> edits;
  StagedArray<SampleOutcome> outcomes;  // [L]

  static Result<StepBuffers> create(Backend& backend, const StepLimits& limits);
  void clear();
  // Prefixes of no rows, until there are as many as rows.
  void pad_prefixes();
  // Rows and tokens of no sequence, until there are `count` of each (op_params.h, BatchView).
  void pad_rows(std::size_t count);
  // Rows of logits that draw nothing, until there are `count`.
  void pad_logits(std::size_t count);
  std::size_t device_bytes() const;
};

}  // namespace latentd
