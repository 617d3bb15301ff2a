// Attention over cached keys and values (MHA, GQA, MQA), straight from their pages.
//
// One (token, head) is one online softmax over blocks of 64 keys at absolute multiples, in
// ascending order, up to the token's own position: nothing of its arithmetic depends on the other
// tokens of the step. Query heads of one group, of a few neighbouring tokens, share a pass over the
// head's keys and values: that is an item of work.
#include <algorithm>

#include "engine/backend/cpu/cpu_ops.h"
#include "engine/backend/cpu/key_value_rows.h"
#include "engine/backend/cpu/matmul_kernels.h"
#include "engine/backend/cpu/row_at.h"
#include "engine/backend/cpu/vector_kernels.h"

namespace latentd::cpu {
namespace {

constexpr int kMaxQueries = 48;  // (token, head) pairs of an item

// Neighbouring tokens of a row.
struct Tile {
  std::int32_t row;
  std::int32_t first;  // token of the row
};

// How the heads of a step are divided.
struct Division {
  int heads;          // of one group, that share an item
  int items_a_group;  // that the heads of one group fall into
  int tokens;         // of an item, at most
};

// Queries of an item, one head after the other within one token after the other.
struct Queries {
  const float* x[kMaxQueries];
  float* out[kMaxQueries];
  float* scores[kMaxQueries];
  float scale[kMaxQueries];
  float keep[kMaxQueries];
  SoftmaxState state[kMaxQueries];
};

// 64 keys of one head, and their values.
struct Block {
  const void* keys[kSoftmaxBlock];
  const void* values[kSoftmaxBlock];
  std::int32_t first;  // position
  std::int32_t count;
};

// Enough items to occupy every thread, each with as many heads as that allows: an item is a pass
// over the cache.
Division divide(const CpuContext& context, const GroupedAttentionParams& p) {
  const int group = p.geometry.group_size();
  const int passes = p.batch.num_tokens * p.geometry.num_kv_heads;
  const int wanted = std::max((context.pool.num_threads() + passes - 1) / passes,
                              (group + kMaxQueries - 1) / kMaxQueries);
  Division division;
  division.heads = (group + wanted - 1) / wanted;
  division.items_a_group = (group + division.heads - 1) / division.heads;
  division.tokens = kMaxQueries / division.heads;
  return division;
}

// Where the block's keys and values of one head lie.
void find_rows(const GroupedAttentionParams& p, std::int32_t slot, int kv_head, Block& block) {
  const std::size_t head_offset =
      static_cast<std::size_t>(kv_head * p.geometry.head_dim) * dtype_size(p.cache.dtype);
  for (std::int32_t j = 0; j < block.count; ++j) {
    const KeyValueRows rows = key_value_rows(p.batch, p.cache, p.geometry, slot, block.first + j);
    block.keys[j] = rows.key + head_offset;
    block.values[j] = rows.value + head_offset;
  }
}

// One block for queries [first, first + num_queries), which all see its first `count` keys.
void attend_block(const GroupedAttentionParams& p, const Block& block, Queries& queries, int first,
                  int num_queries, int count) {
  DotProduct dot;
  dot.x = queries.x + first;
  dot.out = queries.scores + first;
  dot.scale = queries.scale + first;
  dot.m = num_queries;
  dot.n = count;
  dot.k = p.geometry.head_dim;
  dot.w = {nullptr, 0, block.keys, p.cache.dtype};
  multiply_dot(dot);
  for (int i = first; i < first + num_queries; ++i) {
    queries.keep[i] = softmax_block(queries.scores[i], count, block.first == 0, queries.state[i]);
  }
  AxpyProduct axpy;
  axpy.x = queries.scores + first;
  axpy.out = queries.out + first;
  axpy.keep = block.first == 0 ? nullptr : queries.keep + first;
  axpy.m = num_queries;
  axpy.n = p.geometry.head_dim;
  axpy.k = count;
  axpy.w = {nullptr, 0, block.values, p.cache.dtype};
  multiply_axpy(axpy);
}

// `tokens` tokens from position `start` on, `heads` queries each.
void attend(const GroupedAttentionParams& p, std::int32_t slot, int kv_head, std::int32_t start,
            int tokens, int heads, Queries& queries) {
  const std::int32_t num_keys = start + tokens;
  Block block;
  for (block.first = 0; block.first < num_keys; block.first += kSoftmaxBlock) {
    block.count = std::min(kSoftmaxBlock, num_keys - block.first);
    find_rows(p, slot, kv_head, block);
    // Tokens before `full` see a part of the block or nothing, the others all of it.
    const int full = std::clamp(block.first + kSoftmaxBlock - 1 - start, 0, tokens);
    for (int t = 0; t < full; ++t) {
      const int visible = start + t - block.first + 1;
      if (visible > 0) attend_block(p, block, queries, t * heads, heads, visible);
    }
    if (full < tokens) {
      attend_block(p, block, queries, full * heads, (tokens - full) * heads, kSoftmaxBlock);
    }
  }
}

void run_item(const GroupedAttentionParams& p, const Tile& tile, int kv_head, int first_in_group,
              const Division& division, WorkerScratch& scratch) {
  const GqaGeometry& g = p.geometry;
  const RowView& row = p.batch.rows[tile.row];
  const int tokens = std::min(division.tokens, row.count - tile.first);
  const int heads = std::min(division.heads, g.group_size() - first_in_group);
  const int first_head = kv_head * g.group_size() + first_in_group;
  float* scores = scratch.scores.take<float>(std::size_t{kMaxQueries} *
                                             static_cast<std::size_t>(kSoftmaxBlock));
  Queries queries;
  for (int i = 0; i < tokens * heads; ++i) {
    const std::int64_t token = row.first_token + tile.first + i / heads;
    const std::int64_t head = token * g.num_heads + first_head + i % heads;
    queries.x[i] = row_at(static_cast<const float*>(p.q), head, g.head_dim);
    queries.out[i] = row_at(static_cast<float*>(p.out), head, g.head_dim);
    queries.scores[i] = row_at(scores, i, kSoftmaxBlock);
    queries.scale[i] = g.softmax_scale;
  }
  attend(p, row.slot, kv_head, row.start + tile.first, tokens, heads, queries);
  for (int i = 0; i < tokens * heads; ++i) {
    scale_row(queries.out[i], 1.0F / queries.state[i].sum, static_cast<std::size_t>(g.head_dim));
  }
}

void clear_padding(const GroupedAttentionParams& p) {
  const std::int64_t width = std::int64_t{p.geometry.num_heads} * p.geometry.head_dim;
  for (int t = 0; t < p.batch.num_tokens; ++t) {
    if (p.batch.token_slots[t] < 0)
      std::fill_n(row_at(static_cast<float*>(p.out), t, width), width, 0.0F);
  }
}

}  // namespace

void grouped_attention(CpuContext& context, const GroupedAttentionParams& p) {
  if (p.batch.num_tokens == 0) return;
  clear_padding(p);
  const Division division = divide(context, p);
  // No row gives more tiles than it has tokens.
  Tile* tiles = context.items.take<Tile>(static_cast<std::size_t>(p.batch.num_tokens));
  int num_tiles = 0;
  for (int r = 0; r < p.batch.num_rows; ++r) {
    for (int first = 0; first < p.batch.rows[r].count; first += division.tokens) {
      tiles[num_tiles++] = {r, first};
    }
  }
  const int items_a_tile = p.geometry.num_kv_heads * division.items_a_group;
  context.pool.parallel_for(num_tiles * items_a_tile, [&](int i, int worker) {
    const Tile& tile = tiles[num_tiles - 1 - i / items_a_tile];  // the longest of a row first
    const int part = i % items_a_tile;
    run_item(p, tile, part / division.items_a_group, part % division.items_a_group * division.heads,
             division, context.scratch(worker));
  });
}

}  // namespace latentd::cpu
