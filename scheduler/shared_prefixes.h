// Which decode rows of a step have prefixes in common, for devices that read such keys once.
//
// Contract: pure functions of values; nothing is allocated once the plan has memory.
#pragma once

#include <cstdint>
#include <span>

#include "scheduler/batch_plan.h"

namespace latentd {

// Which prefixes are worth it; what they cost is the device's to know.
struct PrefixPolicy {
  int max_depth = 0;            // prefixes around one row; 0: none at all
  int min_rows = 2;             // of a prefix
  int min_tokens = 64;          // that it adds to the one around it
  std::int64_t min_spared = 0;  // tokens, over all prefixes and their rows but one, of a step
};

// Finds the prefixes of plan.rows, of which neighbours i - 1 and i share their first common[i]
// tokens. A prefix has the most rows that share at least policy.min_tokens behind the one around
// it, and all tokens that those rows share.
// REQUIRES: rows that share tokens with one behind them also share them with all in between; one
// entry a row, the first 0; prefixes of the plan empty.
void find_prefixes(std::span<const int> common, const PrefixPolicy& policy, BatchPlan& plan);

}  // namespace latentd
