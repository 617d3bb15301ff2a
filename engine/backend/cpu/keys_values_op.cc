// append_keys_values: rotated queries, and the step's rotated keys and its values written into the
// cache.
#include <algorithm>

#include "engine/backend/cpu/cpu_ops.h"
#include "engine/backend/cpu/key_value_rows.h"
#include "engine/backend/cpu/rotate.h"
#include "engine/backend/cpu/row_at.h"
#include "engine/backend/cpu/vector_kernels.h"

namespace latentd::cpu {
namespace {

constexpr int kTokensPerItem = 8;

struct Angles {
  const float* cosine;
  const float* sine;
};

void rotate_heads(const GqaGeometry& g, const Angles& angles, float* heads, int num_heads) {
  for (int h = 0; h < num_heads; ++h) {
    rotate(row_at(heads, h, g.head_dim), angles.cosine, angles.sine, g.head_dim,
           g.rope_interleaved);
  }
}

void append_token(const AppendKeysValuesParams& p, int t, float* key) {
  const GqaGeometry& g = p.geometry;
  const std::int32_t position = p.batch.positions[t];
  const Angles angles{row_at(p.rope_cos, position, g.head_dim / 2),
                      row_at(p.rope_sin, position, g.head_dim / 2)};
  rotate_heads(g, angles,
               row_at(static_cast<float*>(p.q), t, std::int64_t{g.num_heads} * g.head_dim),
               g.num_heads);
  if (p.batch.token_slots[t] < 0) return;  // padding
  std::copy_n(row_at(static_cast<const float*>(p.k), t, g.kv_dim()), g.kv_dim(), key);
  rotate_heads(g, angles, key, g.num_kv_heads);
  const KeyValueRows rows = key_value_rows(p.batch, p.cache, g, p.batch.token_slots[t], position);
  const auto width = static_cast<std::size_t>(g.kv_dim());
  store_from_f32(key, p.cache.dtype, rows.key, width);
  store_from_f32(row_at(static_cast<const float*>(p.v), t, g.kv_dim()), p.cache.dtype, rows.value,
                 width);
}

}  // namespace

void append_keys_values(CpuContext& context, const AppendKeysValuesParams& p) {
  const int num_tokens = p.batch.num_tokens;
  const int items = (num_tokens + kTokensPerItem - 1) / kTokensPerItem;
  context.pool.parallel_for(items, [&](int item, int worker) {
    float* key =
        context.scratch(worker).rows.take<float>(static_cast<std::size_t>(p.geometry.kv_dim()));
    const int end = std::min(num_tokens, (item + 1) * kTokensPerItem);
    for (int t = item * kTokensPerItem; t < end; ++t) append_token(p, t, key);
  });
}

}  // namespace latentd::cpu
