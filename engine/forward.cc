#include "engine/forward.h"

#include <algorithm>

#include "engine/backend/geometry.h"

namespace latentd {
namespace {

CacheView cache_view(const ForwardParams& p, int layer) {
  CacheView view;
  view.pool = p.cache_pool;
  view.page_stride = p.layout->page_bytes();
  view.layer_offset = p.layout->plane_offset(layer, 0);
  if (p.layout->dtype() == DType::kF8E4M3) {
    view.scales_offset = p.layout->plane_offset(layer, 1);
    view.rope_offset = p.layout->plane_offset(layer, 2);
  }
  view.page_tokens = p.layout->page_tokens();
  view.num_pages = p.num_pages;
  view.dtype = p.layout->dtype();
  return view;
}

KeyValueView key_value_view(const ForwardParams& p, int layer) {
  KeyValueView view;
  view.pool = p.cache_pool;
  view.page_stride = p.layout->page_bytes();
  view.keys_offset = p.layout->plane_offset(layer, 0);
  view.values_offset = p.layout->plane_offset(layer, 1);
  view.page_tokens = p.layout->page_tokens();
  view.num_pages = p.num_pages;
  view.dtype = p.layout->dtype();
  return view;
}

MlaBlockParams mla_block(const ForwardParams& p, int layer) {
  MlaBlockParams block;
  block.batch = p.batch;
  block.cache = cache_view(p, layer);
  block.geometry = mla_geometry(*p.config);
  block.weights = &p.weights->layers[static_cast<std::size_t>(layer)].mla;
  block.rope_cos = p.rope_cos;
  block.rope_sin = p.rope_sin;
  block.hidden = p.scratch.hidden;
  block.scratch = p.scratch.mla;
  block.absorbed_rows = p.absorbed_rows;
  block.absorbed_tokens = p.absorbed_tokens;
  return block;
}

GqaBlockParams gqa_block(const ForwardParams& p, int layer) {
  GqaBlockParams block;
  block.batch = p.batch;
  block.cache = key_value_view(p, layer);
  block.geometry = gqa_geometry(*p.config);
  block.weights = &p.weights->layers[static_cast<std::size_t>(layer)].gqa;
  block.rope_cos = p.rope_cos;
  block.rope_sin = p.rope_sin;
  block.hidden = p.scratch.hidden;
  block.scratch = p.scratch.gqa;
  return block;
}

// Divides the absorbed attention of all layers.
void plan_attention(Backend& backend, const ForwardParams& p) {
  if (p.config->attention != AttentionKind::kLatent || p.absorbed_rows == 0) return;
  BatchView absorbed = p.batch;
  absorbed.num_rows = p.absorbed_rows;
  absorbed.num_tokens = p.absorbed_tokens;
  backend.plan_attention(
      {absorbed, mla_geometry(*p.config), p.layout->page_tokens(), p.layout->dtype()});
}

}  // namespace

RoutingParams routing_params(const MoeConfig& moe) {
  RoutingParams routing;
  routing.num_experts = moe.num_experts;
  routing.experts_per_token = moe.experts_per_token;
  routing.num_groups = moe.selection == ExpertSelection::kGreedy ? 1 : moe.num_groups;
  routing.groups_per_token = moe.selection == ExpertSelection::kGreedy ? 1 : moe.groups_per_token;
  routing.sigmoid = moe.scoring == GateScoring::kSigmoid;
  routing.group_score_top2 = moe.selection == ExpertSelection::kGroupLimitedTop2;
  routing.normalize = moe.normalize_weights;
  routing.weight_scale = moe.weight_scale;
  return routing;
}

std::size_t gate_up_elements_per_token(const ModelConfig& config) {
  const int dense = config.intermediate_size;
  const int experts =
      (config.moe.experts_per_token + config.moe.num_shared_experts) * config.moe.intermediate_size;
  return 2U * static_cast<std::size_t>(std::max(dense, experts));
}

void forward(Backend& backend, const ForwardParams& p) {
  const ModelConfig& config = *p.config;
  const ModelWeights& weights = *p.weights;

  FfnBlockParams ffn;
  ffn.num_tokens = p.batch.num_tokens;
  ffn.hidden_size = config.hidden_size;
  ffn.norm_eps = config.rms_norm_eps;
  ffn.routing = routing_params(config.moe);
  ffn.hidden = p.scratch.hidden;
  ffn.scratch = p.scratch.ffn;

  plan_attention(backend, p);
  backend.embed({p.batch.tokens, weights.embedding, p.scratch.hidden, p.batch.num_tokens});
  for (int layer = 0; layer < config.num_layers; ++layer) {
    switch (config.attention) {
      case AttentionKind::kLatent:
        backend.mla_block(mla_block(p, layer));
        break;
      case AttentionKind::kGrouped:
        gqa_attention_block(backend, gqa_block(p, layer));
        break;
    }
    ffn.weights = &weights.layers[static_cast<std::size_t>(layer)];
    backend.ffn_block(ffn);
  }
}

}  // namespace latentd
