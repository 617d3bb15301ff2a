// Absorbed attention (arXiv:2405.04434, section 2.1.2): queries meet the cached latents themselves.
//
// One (token, head) is one online softmax over blocks of 64 keys at absolute multiples, in
// ascending order, up to the token's own position: nothing of its arithmetic depends on the other
// tokens of the step. Heads of a token share a pass over its latents; tokens and groups of heads
// are the items of work.
#include <algorithm>

#include "engine/backend/cpu/cache_rows.h"
#include "engine/backend/cpu/cpu_ops.h"
#include "engine/backend/cpu/matmul_kernels.h"
#include "engine/backend/cpu/row_at.h"
#include "engine/backend/cpu/vector_kernels.h"

namespace latentd::cpu {
namespace {

constexpr int kMaxHeadGroup = 24;
constexpr int kTokensPerItem = 32;

// Rows [first head, + heads) of one token.
struct HeadRows {
  const float* x[kMaxHeadGroup];
  float* out[kMaxHeadGroup];
  float* scores[kMaxHeadGroup];
  float scale[kMaxHeadGroup];
  float keep[kMaxHeadGroup];
  SoftmaxState state[kMaxHeadGroup];
};

// `wide`: [kSoftmaxBlock, kv_lora + rope], for keys that are no operands of products.
void attend(const AbsorbedAttentionParams& p, int token, HeadRows& rows, int heads,
            BFloat16* wide) {
  const MlaGeometry& g = p.geometry;
  if (p.batch.token_slots[token] < 0) {  // padding
    for (int h = 0; h < heads; ++h) std::fill_n(rows.out[h], g.kv_lora_rank, 0.0F);
    return;
  }
  const std::int32_t num_keys = p.batch.positions[token] + 1;
  const void* keys[kSoftmaxBlock];
  for (std::int32_t first = 0; first < num_keys; first += kSoftmaxBlock) {
    const std::int32_t count = std::min(kSoftmaxBlock, num_keys - first);
    const DType dtype = cache_row_operands(p.batch, p.cache, g, p.batch.token_slots[token], first,
                                           count, wide, keys);
    DotProduct dot;
    dot.x = rows.x;
    dot.out = rows.scores;
    dot.scale = rows.scale;
    dot.m = heads;
    dot.n = count;
    dot.k = g.latent_dim();
    dot.w = {nullptr, 0, keys, dtype};
    multiply_dot(dot);
    for (int h = 0; h < heads; ++h) {
      rows.keep[h] = softmax_block(rows.scores[h], count, first == 0, rows.state[h]);
    }
    AxpyProduct axpy;
    axpy.x = rows.scores;
    axpy.out = rows.out;
    axpy.keep = first == 0 ? nullptr : rows.keep;
    axpy.m = heads;
    axpy.n = g.kv_lora_rank;
    axpy.k = count;
    axpy.w = dot.w;
    multiply_axpy(axpy);
  }
  for (int h = 0; h < heads; ++h) {
    scale_row(rows.out[h], 1.0F / rows.state[h].sum, static_cast<std::size_t>(g.kv_lora_rank));
  }
}

// Blocks of tokens times heads, for products with a matrix a head.
template <typename Body>
void for_each_head_block(CpuContext& context, int num_tokens, int num_heads, const Body& body) {
  const int blocks = (num_tokens + kTokensPerItem - 1) / kTokensPerItem;
  context.pool.parallel_for(num_heads * blocks, [&](int item, int /*worker*/) {
    const int first = item / num_heads * kTokensPerItem;
    body(item % num_heads, first, std::min(kTokensPerItem, num_tokens - first));
  });
}

// Rows [first, ...) of head `head` in kv_b [H, nope + v, kv_lora].
MatrixRows kv_b_rows(const MlaGeometry& g, const TensorView& kv_b, int head, int first) {
  const std::size_t row_bytes = static_cast<std::size_t>(g.kv_lora_rank) * dtype_size(kv_b.dtype);
  const std::int64_t row = std::int64_t{head} * (g.nope_dim + g.v_dim) + first;
  return {row_at(static_cast<const char*>(kv_b.data), row, static_cast<std::int64_t>(row_bytes)),
          row_bytes, nullptr, kv_b.dtype};
}

std::size_t head_row(const MlaGeometry& g, int token, int head, int width) {
  return (static_cast<std::size_t>(token) * static_cast<std::size_t>(g.num_heads) +
          static_cast<std::size_t>(head)) *
         static_cast<std::size_t>(width);
}

}  // namespace

void absorb_query(CpuContext& context, const AbsorbQueryParams& p) {
  const MlaGeometry& g = p.geometry;
  for_each_head_block(context, p.num_tokens, g.num_heads, [&](int head, int first, int count) {
    const float* x[kTokensPerItem];
    float* out[kTokensPerItem];
    for (int i = 0; i < count; ++i) {
      x[i] = static_cast<const float*>(p.q) + head_row(g, first + i, head, g.qk_dim());
      out[i] = static_cast<float*>(p.absorbed) + head_row(g, first + i, head, g.latent_dim());
      std::copy_n(x[i] + g.nope_dim, g.rope_dim, out[i] + g.kv_lora_rank);
    }
    AxpyProduct product;
    product.x = x;
    product.out = out;
    product.m = count;
    product.n = g.kv_lora_rank;
    product.k = g.nope_dim;
    product.w = kv_b_rows(g, p.kv_b, head, 0);
    multiply_axpy(product);
  });
}

void project_value(CpuContext& context, const ProjectValueParams& p) {
  const MlaGeometry& g = p.geometry;
  for_each_head_block(context, p.num_tokens, g.num_heads, [&](int head, int first, int count) {
    const float* x[kTokensPerItem];
    float* out[kTokensPerItem];
    for (int i = 0; i < count; ++i) {
      x[i] = static_cast<const float*>(p.latent) + head_row(g, first + i, head, g.kv_lora_rank);
      out[i] = static_cast<float*>(p.out) + head_row(g, first + i, head, g.v_dim);
    }
    DotProduct product;
    product.x = x;
    product.out = out;
    product.m = count;
    product.n = g.v_dim;
    product.k = g.kv_lora_rank;
    product.w = kv_b_rows(g, p.kv_b, head, g.nope_dim);
    multiply_dot(product);
  });
}

void absorbed_attention(CpuContext& context, const AbsorbedAttentionParams& p) {
  const MlaGeometry& g = p.geometry;
  const int num_tokens = p.batch.num_tokens;
  if (num_tokens == 0) return;
  // Enough groups to occupy every thread, each as large as that allows: a group is a pass over the
  // cache.
  const int threads = context.pool.num_threads();
  const int wanted = std::max((threads + num_tokens - 1) / num_tokens,
                              (g.num_heads + kMaxHeadGroup - 1) / kMaxHeadGroup);
  const int group = (g.num_heads + wanted - 1) / wanted;
  const int groups = (g.num_heads + group - 1) / group;
  context.pool.parallel_for(num_tokens * groups, [&](int item, int worker) {
    const int token = num_tokens - 1 - item / groups;  // the longest contexts of a row first
    const int first_head = item % groups * group;
    const int heads = std::min(group, g.num_heads - first_head);
    float* scores =
        context.scratch(worker).scores.take<float>(std::size_t{kMaxHeadGroup} * kSoftmaxBlock);
    auto* wide = context.scratch(worker).wide_rows.take<BFloat16>(
        std::size_t{kSoftmaxBlock} * static_cast<std::size_t>(g.latent_dim()));
    HeadRows rows;
    for (int h = 0; h < heads; ++h) {
      rows.x[h] = static_cast<const float*>(p.absorbed) +
                  head_row(g, token, first_head + h, g.latent_dim());
      rows.out[h] = static_cast<float*>(p.out) + head_row(g, token, first_head + h, g.kv_lora_rank);
      rows.scores[h] = row_at(scores, h, kSoftmaxBlock);
      rows.scale[h] = g.softmax_scale;
    }
    attend(p, token, rows, heads, wide);
  });
}

}  // namespace latentd::cpu
