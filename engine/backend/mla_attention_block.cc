#include "engine/backend/mla_attention_block.h"

namespace latentd {

void mla_attention_block(Backend& backend, const MlaBlockParams& p) {
  const MlaGeometry& g = p.geometry;
  const MlaWeights& w = *p.weights;
  const MlaScratch& s = p.scratch;
  const std::int32_t num_tokens = p.batch.num_tokens;

  backend.rms_norm({p.hidden, w.input_norm, s.normed, num_tokens, g.hidden_size, g.hidden_size,
                    g.hidden_size, g.norm_eps});
  if (g.q_lora_rank == 0) {
    backend.linear({s.normed, w.q, s.q, num_tokens});
  } else {
    backend.linear({s.normed, w.q_a, s.q_a, num_tokens});
    backend.rms_norm({s.q_a, w.q_a_norm, s.q_a, num_tokens, g.q_lora_rank, g.q_lora_rank,
                      g.q_lora_rank, g.latent_norm_eps});
    backend.linear({s.q_a, w.q_b, s.q, num_tokens});
  }
  backend.linear({s.normed, w.kv_a, s.kv_a, num_tokens});
  backend.rope_append({p.batch, p.cache, g, s.q, s.kv_a, w.kv_a_norm, p.rope_cos, p.rope_sin});
  if (p.absorbed_tokens > 0) {
    BatchView absorbed = p.batch;
    absorbed.num_rows = p.absorbed_rows;
    absorbed.num_tokens = p.absorbed_tokens;
    backend.absorb_query({g, s.q, w.kv_b, s.absorbed, p.absorbed_tokens});
    backend.absorbed_attention({absorbed, p.cache, g, s.absorbed, s.latent});
    backend.project_value({g, s.latent, w.kv_b, s.heads, p.absorbed_tokens});
  }
  if (p.absorbed_rows < p.batch.num_rows) {
    BatchView expanded = p.batch;
    expanded.rows += p.absorbed_rows;
    if (expanded.host_rows != nullptr) expanded.host_rows += p.absorbed_rows;
    expanded.num_rows -= p.absorbed_rows;
    backend.expanded_attention({expanded, p.cache, g, s.q, w.kv_b, s.heads});
  }
  backend.linear({s.heads, w.o, p.hidden, num_tokens, /*accumulate=*/true});
}

}  // namespace latentd
