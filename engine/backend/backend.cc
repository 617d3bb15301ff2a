#include "engine/backend/backend.h"

#include "engine/backend/mla_attention_block.h"

namespace latentd {

Result<TensorView> Backend::upload(const TensorView& host) {
  TensorView view = host;
  TensorView* const tensors[] = {&view};
  LATENTD_RETURN_IF_ERROR(begin_upload(tensors, {}));
  LATENTD_RETURN_IF_ERROR(finish_upload({}));
  return view;
}

void Backend::mla_block(const MlaBlockParams& p) { mla_attention_block(*this, p); }

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
