#include "engine/backend/backend.h"

namespace latentd {

Result<TensorView> Backend::upload(const TensorView& host) {
  TensorView view = host;
  TensorView* const tensors[] = {&view};
  LATENTD_RETURN_IF_ERROR(upload_all(tensors, {}));
  return view;
}

void Backend::attention_block(const AttentionBlockParams& p) {
  const MlaGeometry& g = p.geometry;
  const MlaWeights& w = *p.weights;
  const AttentionScratch& s = p.scratch;
  const std::int32_t num_tokens = p.batch.num_tokens;

  rms_norm({p.hidden, w.input_norm, s.normed, num_tokens, g.hidden_size, g.hidden_size,
            g.hidden_size, g.norm_eps});
  if (g.q_lora_rank == 0) {
    linear({s.normed, w.q, s.q, num_tokens});
  } else {
    linear({s.normed, w.q_a, s.q_a, num_tokens});
    rms_norm({s.q_a, w.q_a_norm, s.q_a, num_tokens, g.q_lora_rank, g.q_lora_rank, g.q_lora_rank,
              g.latent_norm_eps});
    linear({s.q_a, w.q_b, s.q, num_tokens});
  }
  linear({s.normed, w.kv_a, s.kv_a, num_tokens});
  rope_append({p.batch, p.cache, g, s.q, s.kv_a, w.kv_a_norm, p.rope_cos, p.rope_sin});
  if (p.absorbed_tokens > 0) {
    BatchView absorbed = p.batch;
    absorbed.num_rows = p.absorbed_rows;
    absorbed.num_tokens = p.absorbed_tokens;
    absorb_query({g, s.q, w.kv_b, s.absorbed, p.absorbed_tokens});
    absorbed_attention({absorbed, p.cache, g, s.absorbed, s.latent});
    project_value({g, s.latent, w.kv_b, s.heads, p.absorbed_tokens});
  }
  if (p.absorbed_rows < p.batch.num_rows) {
    BatchView expanded = p.batch;
    expanded.rows += p.absorbed_rows;
    if (expanded.host_rows != nullptr) expanded.host_rows += p.absorbed_rows;
    expanded.num_rows -= p.absorbed_rows;
    expanded_attention({expanded, p.cache, g, s.q, w.kv_b, s.heads});
  }
  linear({s.heads, w.o, p.hidden, num_tokens, /*accumulate=*/true});
}

void Backend::ffn_block(const FfnBlockParams& p) {
  const LayerWeights& w = *p.weights;
  const FfnScratch& s = p.scratch;

  rms_norm({p.hidden, w.post_attention_norm, s.normed, p.num_tokens, p.hidden_size, p.hidden_size,
            p.hidden_size, p.norm_eps});
  if (w.moe.experts.empty()) {
    mlp({s.normed, &w.mlp, p.hidden, s.gate_up, p.num_tokens, p.hidden_size});
    return;
  }
  linear({s.normed, w.moe.router, s.router_logits, p.num_tokens, /*accumulate=*/false,
          /*out_fp32=*/true});
  route({p.routing, s.router_logits, w.moe.correction_bias, s.expert_ids, s.expert_weights,
         p.num_tokens});
  experts({s.normed, &w.moe, s.expert_ids, s.expert_weights, p.hidden, s.gate_up, p.num_tokens,
           p.hidden_size, p.routing.num_experts, p.routing.experts_per_token});
}

}  // namespace latentd
