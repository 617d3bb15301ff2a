#include "engine/forward.h"

#include <algorithm>

namespace latentd {

MlaGeometry mla_geometry(const ModelConfig& config) {
  MlaGeometry geometry;
  geometry.num_heads = config.num_heads;
  geometry.q_lora_rank = config.q_lora_rank;
  geometry.kv_lora_rank = config.kv_lora_rank;
  geometry.nope_dim = config.qk_nope_head_dim;
  geometry.rope_dim = config.qk_rope_head_dim;
  geometry.v_dim = config.v_head_dim;
  geometry.hidden_size = config.hidden_size;
  geometry.softmax_scale = config.softmax_scale;
  geometry.norm_eps = config.rms_norm_eps;
  geometry.latent_norm_eps = config.latent_norm_eps;
  geometry.rope_interleaved = config.rope.interleaved;
  return geometry;
}

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

  CacheView cache;
  cache.pool = p.cache_pool;
  cache.page_stride = p.layout->page_bytes();
  cache.page_tokens = p.layout->page_tokens();
  cache.num_pages = p.num_pages;
  cache.dtype = p.layout->dtype();

  AttentionBlockParams attention;
  attention.batch = p.batch;
  attention.geometry = mla_geometry(config);
  attention.rope_cos = p.rope_cos;
  attention.rope_sin = p.rope_sin;
  attention.hidden = p.scratch.hidden;
  attention.scratch = p.scratch.attention;
  attention.absorbed_rows = p.absorbed_rows;
  attention.absorbed_tokens = p.absorbed_tokens;

  FfnBlockParams ffn;
  ffn.num_tokens = p.batch.num_tokens;
  ffn.hidden_size = config.hidden_size;
  ffn.norm_eps = config.rms_norm_eps;
  ffn.routing = routing_params(config.moe);
  ffn.hidden = p.scratch.hidden;
  ffn.scratch = p.scratch.ffn;

  if (p.absorbed_rows > 0) {
    BatchView absorbed = p.batch;
    absorbed.num_rows = p.absorbed_rows;
    absorbed.num_tokens = p.absorbed_tokens;
    backend.plan_attention({absorbed, attention.geometry, cache.page_tokens, cache.dtype});
  }
  backend.embed({p.batch.tokens, weights.embedding, p.scratch.hidden, p.batch.num_tokens});
  for (int layer = 0; layer < config.num_layers; ++layer) {
    const LayerWeights& layer_weights = weights.layers[static_cast<std::size_t>(layer)];
    attention.cache = cache;
    attention.cache.layer_offset = p.layout->plane_offset(layer, 0);
    if (cache.dtype == DType::kF8E4M3) {
      attention.cache.scales_offset = p.layout->plane_offset(layer, 1);
      attention.cache.rope_offset = p.layout->plane_offset(layer, 2);
    }
    attention.weights = &layer_weights.attention;
    backend.attention_block(attention);
    ffn.weights = &layer_weights;
    backend.ffn_block(ffn);
  }
}

}  // namespace latentd
