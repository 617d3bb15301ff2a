// What a step must read and write: the bytes that bound its speed.
//
// Contract: pure functions.
#pragma once

#include <cstddef>

#include "engine/model/model_config.h"
#include "engine/model/weights.h"
#include "kvcache/cache_layout.h"

namespace latentd {

struct StepShape {
  int rows = 0;
  int tokens_per_row = 0;
  int context = 0;  // tokens of each row that were cached before the step
  int logit_rows = 0;
};

// Bytes of weights that a step touches: everything but the embedding once, the head when there are
// logits, embedding rows by token, and of the routed experts as many as are distinct on average
// when every expert is equally likely.
double weight_bytes_touched(const ModelConfig& config, const ModelWeights& weights,
                            const StepShape& step);

// Bytes of cache: each row's context once and its own tokens twice (written, then read).
double cache_bytes_touched(const CacheLayout& layout, const StepShape& step);

// Elements of all matrices; a head tied to the embedding counts once.
std::size_t parameter_count(const ModelWeights& weights);

}  // namespace latentd
