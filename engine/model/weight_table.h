// The table of a model's tensors: published names, shapes and the views that they fill.
//
// Contract: a pure function; targets stay valid as long as `weights` is not moved.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/model/model_config.h"
#include "engine/model/weights.h"

namespace latentd {

struct WeightRow {
  std::string name;                 // "model.layers.0.self_attn.o_proj.weight"
  std::vector<std::int64_t> shape;  // in the checkpoint
  TensorView* target = nullptr;
  std::vector<std::int64_t> view_shape;  // same elements
  bool fp32 = false;                     // always kept in fp32
};

// One row a tensor; of a head tied to the embedding none. Gives the vectors in `weights` their
// sizes.
std::vector<WeightRow> weight_table(const ModelConfig& config, ModelWeights& weights);

}  // namespace latentd
