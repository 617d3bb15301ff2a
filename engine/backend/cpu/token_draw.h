// Drawing a token from a row of processed logits: temperature, top_k, top_p, min_p, one draw.
//
// Weights are exp((logit - highest) / temperature). top_k keeps the k heaviest tokens, top_p the
// fewest of those, heaviest first, that together hold at least that part of their weight, min_p
// those of at least that part of the heaviest one's weight; ties go to the lower id. The draw walks
// what is left in ascending id (engine/backend/sampling_random.h).
//
// Contract: pure functions of their arguments; scratch is overwritten.
#pragma once

#include "base/ids.h"
#include "engine/backend/cpu/cpu_context.h"
#include "engine/backend/op_params.h"

namespace latentd::cpu {

// logits [vocab]: finite or -infinity, at least one finite, `highest` the greatest of them.
// REQUIRES: row.temperature > 0.
TokenId draw_token(const float* logits, float highest, int vocab, const SampleRow& row,
                   WorkerScratch& scratch);

// The `count` tokens with the highest values, best first, ties by lower id. `tokens` has room for
// count; returns how many there are (all of them when vocab is smaller).
int highest_tokens(const float* values, int vocab, int count, TokenId* tokens);

}  // namespace latentd::cpu
