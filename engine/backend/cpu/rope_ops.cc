// rope_append: rotated queries, and the step's latents and rotated keys written into the cache.
#include <algorithm>

#include "base/check.h"
#include "engine/backend/cpu/cache_rows.h"
#include "engine/backend/cpu/cpu_ops.h"
#include "engine/backend/cpu/rotate.h"
#include "engine/backend/cpu/vector_kernels.h"

namespace latentd::cpu {
namespace {

constexpr int kTokensPerItem = 8;

void append_token(const RopeAppendParams& p, int t, const float* norm_weight, float* row) {
  const MlaGeometry& g = p.geometry;
  const auto latent_dim = static_cast<std::size_t>(g.latent_dim());
  const auto kv_lora = static_cast<std::size_t>(g.kv_lora_rank);
  const auto qk_dim = static_cast<std::size_t>(g.qk_dim());
  const std::int32_t position = p.batch.positions[t];
  const std::size_t angle =
      static_cast<std::size_t>(position) * static_cast<std::size_t>(g.rope_dim / 2);
  const float* cosine = p.rope_cos + angle;
  const float* sine = p.rope_sin + angle;

  float* q = static_cast<float*>(p.q) +
             static_cast<std::size_t>(t) * static_cast<std::size_t>(g.num_heads) * qk_dim;
  for (int h = 0; h < g.num_heads; ++h) {
    rotate(q + static_cast<std::size_t>(h) * qk_dim + g.nope_dim, cosine, sine, g.rope_dim,
           g.rope_interleaved);
  }

  if (p.batch.token_slots[t] < 0) return;  // padding
  const float* kv_a = static_cast<const float*>(p.kv_a) + static_cast<std::size_t>(t) * latent_dim;
  rms_norm_row(kv_a, norm_weight, row, kv_lora, g.latent_norm_eps);
  std::copy(kv_a + kv_lora, kv_a + latent_dim, row + kv_lora);
  rotate(row + kv_lora, cosine, sine, g.rope_dim, g.rope_interleaved);
  store_cache_row(p.batch, p.cache, g, p.batch.token_slots[t], position, row);
}

}  // namespace

void rope_append(CpuContext& context, const RopeAppendParams& p) {
  const auto kv_lora = static_cast<std::size_t>(p.geometry.kv_lora_rank);
  float* norm_weight = context.weights.take<float>(kv_lora);
  load_as_f32(p.kv_a_norm.data, p.kv_a_norm.dtype, norm_weight, kv_lora);
  const int num_tokens = p.batch.num_tokens;
  const int items = (num_tokens + kTokensPerItem - 1) / kTokensPerItem;
  context.pool.parallel_for(items, [&](int item, int worker) {
    float* row =
        context.scratch(worker).rows.take<float>(static_cast<std::size_t>(p.geometry.latent_dim()));
    const int end = std::min(num_tokens, (item + 1) * kTokensPerItem);
    for (int t = item * kTokensPerItem; t < end; ++t) append_token(p, t, norm_weight, row);
  });
}

}  // namespace latentd::cpu
