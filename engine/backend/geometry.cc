#include "engine/backend/geometry.h"

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

GqaGeometry gqa_geometry(const ModelConfig& config) {
  GqaGeometry geometry;
  geometry.num_heads = config.num_heads;
  geometry.num_kv_heads = config.num_kv_heads;
  geometry.head_dim = config.qk_head_dim();
  geometry.hidden_size = config.hidden_size;
  geometry.softmax_scale = config.softmax_scale;
  geometry.norm_eps = config.rms_norm_eps;
  geometry.rope_interleaved = config.rope.interleaved;
  return geometry;
}

}  // namespace latentd
