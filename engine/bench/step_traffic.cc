#include "engine/bench/step_traffic.h"

#include <cmath>

namespace latentd {
namespace {

struct Size {
  double bytes = 0.0;
  std::size_t elements = 0;

  void add(const TensorView& view) {
    if (!view.is_set()) return;
    bytes += static_cast<double>(view.num_bytes());
    elements += static_cast<std::size_t>(view.num_elements());
  }
  void add(const MlpWeights& mlp) {
    add(mlp.gate);
    add(mlp.up);
    add(mlp.down);
  }
};

// All of a layer but its routed experts.
Size dense_part(const LayerWeights& layer) {
  Size size;
  visit_dense_tensors(layer, [&size](const TensorView& view) { size.add(view); });
  return size;
}

Size routed_experts(const LayerWeights& layer) {
  Size size;
  for (const MlpWeights& expert : layer.moe.experts) size.add(expert);
  return size;
}

}  // namespace

double weight_bytes_touched(const ModelConfig& config, const ModelWeights& weights,
                            const StepShape& step) {
  const int tokens = step.rows * step.tokens_per_row;
  double bytes = static_cast<double>(tokens) * config.hidden_size *
                 static_cast<double>(dtype_size(weights.embedding.dtype));
  double touched = 0.0;  // part of the experts
  if (config.moe.num_experts > 0) {
    const double missed = 1.0 - static_cast<double>(config.moe.experts_per_token) /
                                    static_cast<double>(config.moe.num_experts);
    touched = 1.0 - std::pow(missed, tokens);
  }
  for (const LayerWeights& layer : weights.layers) {
    bytes += dense_part(layer).bytes + touched * routed_experts(layer).bytes;
  }
  if (step.logit_rows > 0) bytes += static_cast<double>(weights.lm_head.num_bytes());
  return bytes;
}

double cache_bytes_touched(const CacheLayout& layout, const StepShape& step) {
  const double tokens = static_cast<double>(step.rows) *
                        (static_cast<double>(step.context) + 2.0 * step.tokens_per_row);
  return tokens * static_cast<double>(layout.bytes_per_token());
}

std::size_t parameter_count(const ModelWeights& weights) {
  Size size;
  size.add(weights.embedding);
  size.add(weights.final_norm);
  if (weights.lm_head.data != weights.embedding.data) size.add(weights.lm_head);
  for (const LayerWeights& layer : weights.layers) {
    size.elements += dense_part(layer).elements + routed_experts(layer).elements;
  }
  return size.elements;
}

}  // namespace latentd
