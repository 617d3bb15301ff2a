// The oracle's attention of keys and values in double precision, written from the papers: MHA
// (arXiv:1706.03762, section 3.2), MQA (arXiv:1911.02150), GQA (arXiv:2305.13245).
//
// Contract: as mla_oracle.h.
#pragma once

#include <span>
#include <vector>

#include "base/dtype.h"
#include "engine/model/model_config.h"
#include "engine/model/weights.h"
#include "tests/support/mla_oracle.h"

namespace latentd::oracle {

// H query heads of `head_dim`; heads h * H / G ... share head h of the G heads of keys and values.
struct GroupedShape {
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  double softmax_scale = 0.0;
};

// One query [H, head_dim] against all that it may see: keys and values are [tokens, G, head_dim].
// Returns [H, head_dim].
Vector grouped_attention(const GroupedShape& shape, std::span<const double> q,
                         std::span<const double> keys, std::span<const double> values);

// hidden[t] += attention(norm(hidden[t])) for every token of a sequence, each seeing the ones
// before it. Keys and values are rounded to cache_dtype before anybody attends to them.
void add_grouped_attention(const ModelConfig& config, const GqaWeights& weights,
                           std::vector<Vector>& hidden, DType cache_dtype);

}  // namespace latentd::oracle
