// Attention with keys and values expanded from the cached latents, a block of 64 keys at a time and
// a head at a time: k = W_UK c, v = W_UV c. Per pair of tokens it costs nope + rope + v
// multiply-adds instead of 2 kv_lora + rope, and nothing but the expansion, shared by all queries
// of the row.
//
// As in the absorbed form, a (token, head) is an online softmax over absolute blocks up to its own
// position, so its bits do not depend on how the prompt is cut; they differ from the absorbed
// form's by rounding.
#include <algorithm>

#include "engine/backend/cpu/cache_rows.h"
#include "engine/backend/cpu/cpu_ops.h"
#include "engine/backend/cpu/matmul_kernels.h"
#include "engine/backend/cpu/row_at.h"
#include "engine/backend/cpu/vector_kernels.h"

namespace latentd::cpu {
namespace {

// Queries that share an expansion: more amortise it better, fewer leave more items of work.
constexpr int kQueriesPerItem = 512;
constexpr int kQueryTile = 48;

struct Item {
  std::int32_t row;
  std::int32_t first;  // query of the row
};

struct Block {
  BFloat16* wide;  // [64, kv_lora + rope], for rows of the cache that are no operands of products
  float* latents;  // [64, kv_lora + rope]
  float* keys;     // [64, nope + rope]
  float* values;   // [64, v]
  const void* key_rows[kSoftmaxBlock];
  const void* value_rows[kSoftmaxBlock];
  std::int32_t first;
  std::int32_t count;
};

// Fills the block's keys and values from the cache.
void expand(const ExpandedAttentionParams& p, std::int32_t slot, int head, Block& block) {
  const MlaGeometry& g = p.geometry;
  const void* rows[kSoftmaxBlock];
  const float* x[kSoftmaxBlock];
  float* keys[kSoftmaxBlock];
  float* values[kSoftmaxBlock];
  const DType dtype =
      cache_row_operands(p.batch, p.cache, g, slot, block.first, block.count, block.wide, rows);
  for (int j = 0; j < block.count; ++j) {
    float* latent = row_at(block.latents, j, g.latent_dim());
    load_as_f32(rows[j], dtype, latent, static_cast<std::size_t>(g.latent_dim()));
    x[j] = latent;
    keys[j] = row_at(block.keys, j, g.qk_dim());
    values[j] = row_at(block.values, j, g.v_dim);
    block.key_rows[j] = keys[j];
    block.value_rows[j] = values[j];
    std::copy_n(latent + g.kv_lora_rank, g.rope_dim, keys[j] + g.nope_dim);
  }
  const std::size_t weight_bytes =
      static_cast<std::size_t>(g.kv_lora_rank) * dtype_size(p.kv_b.dtype);
  const char* weights =
      row_at(static_cast<const char*>(p.kv_b.data), std::int64_t{head} * (g.nope_dim + g.v_dim),
             static_cast<std::int64_t>(weight_bytes));
  DotProduct product;
  product.x = x;
  product.out = keys;
  product.m = block.count;
  product.n = g.nope_dim;
  product.k = g.kv_lora_rank;
  product.w = {weights, weight_bytes, nullptr, p.kv_b.dtype};
  multiply_dot(product);
  product.out = values;
  product.n = g.v_dim;
  product.w.base = weights + static_cast<std::size_t>(g.nope_dim) * weight_bytes;
  multiply_dot(product);
}

// One block for `queries` queries that all see its first `count` keys.
struct Queries {
  const float* x[kQueryTile];
  float* out[kQueryTile];
  SoftmaxState* state;
};

void attend(const ExpandedAttentionParams& p, const Block& block, const Queries& queries, int first,
            int num_queries, int count, float* scores) {
  const MlaGeometry& g = p.geometry;
  float* score_rows[kQueryTile];
  float scale[kQueryTile];
  float keep[kQueryTile];
  for (int i = 0; i < num_queries; ++i) {
    score_rows[i] = row_at(scores, i, kSoftmaxBlock);
    scale[i] = g.softmax_scale;
  }
  DotProduct dot;
  dot.x = queries.x + first;
  dot.out = score_rows;
  dot.scale = scale;
  dot.m = num_queries;
  dot.n = count;
  dot.k = g.qk_dim();
  dot.w = {nullptr, 0, block.key_rows, DType::kF32};
  multiply_dot(dot);
  for (int i = 0; i < num_queries; ++i) {
    keep[i] = softmax_block(score_rows[i], count, block.first == 0, queries.state[first + i]);
  }
  AxpyProduct axpy;
  axpy.x = score_rows;
  axpy.out = queries.out + first;
  axpy.keep = block.first == 0 ? nullptr : keep;
  axpy.m = num_queries;
  axpy.n = g.v_dim;
  axpy.k = count;
  axpy.w = {nullptr, 0, block.value_rows, DType::kF32};
  multiply_axpy(axpy);
}

// Attention of the queries [first, first + num_queries) of the row over one expanded block.
void attend_row(const ExpandedAttentionParams& p, const RowView& row, int head, int first,
                int num_queries, const Block& block, SoftmaxState* states, float* scores) {
  const MlaGeometry& g = p.geometry;
  const auto heads = static_cast<std::size_t>(g.num_heads);
  for (int begin = 0; begin < num_queries; begin += kQueryTile) {
    const int tile = std::min(kQueryTile, num_queries - begin);
    Queries queries;
    queries.state = states + begin;
    for (int i = 0; i < tile; ++i) {
      const std::size_t r = static_cast<std::size_t>(row.first_token + first + begin + i) * heads +
                            static_cast<std::size_t>(head);
      queries.x[i] = static_cast<const float*>(p.q) + r * static_cast<std::size_t>(g.qk_dim());
      queries.out[i] = static_cast<float*>(p.out) + r * static_cast<std::size_t>(g.v_dim);
    }
    // Queries before `full` see a part of the block or nothing, the others all of it.
    const int position = row.start + first + begin;
    const int full = std::clamp(block.first + kSoftmaxBlock - 1 - position, 0, tile);
    for (int i = 0; i < full; ++i) {
      const int visible = position + i - block.first + 1;
      if (visible > 0) attend(p, block, queries, i, 1, visible, scores);
    }
    if (full < tile) attend(p, block, queries, full, tile - full, kSoftmaxBlock, scores);
  }
}

void run_item(const ExpandedAttentionParams& p, const Item& item, int head,
              WorkerScratch& scratch) {
  const MlaGeometry& g = p.geometry;
  const RowView& row = p.batch.rows[item.row];
  const int num_queries = std::min(kQueriesPerItem, row.count - item.first);
  const int num_keys = row.start + item.first + num_queries;
  constexpr auto kBlock = static_cast<std::size_t>(kSoftmaxBlock);
  Block block;
  block.keys = scratch.keys.take<float>(kBlock * static_cast<std::size_t>(g.qk_dim()));
  block.values = scratch.values.take<float>(kBlock * static_cast<std::size_t>(g.v_dim));
  const std::size_t latents = kBlock * static_cast<std::size_t>(g.latent_dim());
  block.wide = scratch.wide_rows.take<BFloat16>(latents);
  block.latents = scratch.latents.take<float>(latents);
  auto* states = scratch.state.take<SoftmaxState>(kQueriesPerItem);
  float* scores = scratch.scores.take<float>(kBlock * kQueryTile);
  for (block.first = 0; block.first < num_keys; block.first += kSoftmaxBlock) {
    block.count = std::min(kSoftmaxBlock, num_keys - block.first);
    expand(p, row.slot, head, block);
    attend_row(p, row, head, item.first, num_queries, block, states, scores);
  }
  for (int i = 0; i < num_queries; ++i) {
    const std::size_t r = static_cast<std::size_t>(row.first_token + item.first + i) *
                              static_cast<std::size_t>(g.num_heads) +
                          static_cast<std::size_t>(head);
    const auto width = static_cast<std::size_t>(g.v_dim);
    scale_row(static_cast<float*>(p.out) + r * width, 1.0F / states[i].sum, width);
  }
}

}  // namespace

void expanded_attention(CpuContext& context, const ExpandedAttentionParams& p) {
  int num_items = 0;
  for (int r = 0; r < p.batch.num_rows; ++r) {
    num_items += (p.batch.rows[r].count + kQueriesPerItem - 1) / kQueriesPerItem;
  }
  Item* items = context.items.take<Item>(static_cast<std::size_t>(num_items));
  int filled = 0;
  for (int r = 0; r < p.batch.num_rows; ++r) {
    for (int first = 0; first < p.batch.rows[r].count; first += kQueriesPerItem) {
      items[filled++] = {r, first};
    }
  }
  const int heads = p.geometry.num_heads;
  context.pool.parallel_for(num_items * heads, [&](int i, int worker) {
    run_item(p, items[i / heads], i % heads, context.scratch(worker));
  });
}

}  // namespace latentd::cpu
