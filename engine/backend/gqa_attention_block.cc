#include "engine/backend/gqa_attention_block.h"

namespace latentd {

void gqa_attention_block(Backend& backend, const GqaBlockParams& p) {
  const GqaGeometry& g = p.geometry;
  const GqaWeights& w = *p.weights;
  const GqaScratch& s = p.scratch;
  const std::int32_t num_tokens = p.batch.num_tokens;

  backend.rms_norm({p.hidden, w.input_norm, s.normed, num_tokens, g.hidden_size, g.hidden_size,
                    g.hidden_size, g.norm_eps});
  backend.linear({s.normed, w.q, s.q, num_tokens});
  backend.linear({s.normed, w.k, s.k, num_tokens});
  backend.linear({s.normed, w.v, s.v, num_tokens});
  backend.append_keys_values({p.batch, p.cache, g, s.q, s.k, s.v, p.rope_cos, p.rope_sin});
  backend.grouped_attention({p.batch, p.cache, g, s.q, s.heads});
  backend.linear({s.heads, w.o, p.hidden, num_tokens, /*accumulate=*/true});
}

}  // namespace latentd
