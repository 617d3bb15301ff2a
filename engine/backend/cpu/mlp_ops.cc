// mlp and experts: gated MLPs over groups of tokens.
//
// Two phases and nothing between them but one barrier. First every (group, slab of inner columns)
// computes silu(gate x) * up x; then every slab of output columns adds the groups' down projections
// to the hidden state in group order, so a token's experts are summed in index order whatever else
// is in the step. Each weight is read once a step.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "engine/backend/cpu/cpu_ops.h"
#include "engine/backend/cpu/matmul_kernels.h"
#include "engine/backend/cpu/row_at.h"
#include "engine/backend/cpu/vector_kernels.h"

namespace latentd::cpu {
namespace {

constexpr int kInnerColumns = 32;
constexpr int kTokenBlock = 96;

// Tokens that share an MLP: entries [first, first + count) of the row arrays.
struct Group {
  const MlpWeights* weights;
  std::int32_t first;
  std::int32_t count;
  std::int32_t inner;  // intermediate size
  bool weighted;       // the down projection is scaled by the entry's expert weight
};

struct Item {
  std::int32_t group;
  std::int32_t column;
};

struct Batch {
  const Group* groups = nullptr;
  std::int32_t num_groups = 0;
  const float* const* x = nullptr;  // [entries] rows of hidden_size
  float* const* act = nullptr;      // [entries] rows of the group's inner size
  float* const* out = nullptr;      // [entries] rows of hidden_size
  const float* weights = nullptr;   // [entries]
  std::int32_t hidden_size = 0;
};

MatrixRows rows_from(const TensorView& w, int first) {
  const std::size_t row_bytes = static_cast<std::size_t>(w.dim(1)) * dtype_size(w.dtype);
  return {static_cast<const char*>(w.data) + static_cast<std::size_t>(first) * row_bytes, row_bytes,
          nullptr, w.dtype};
}

// act[:, column .. column + n) = silu(gate x) * up x for the group's tokens.
void gate_up_slab(const Batch& batch, const Group& group, int column, WorkerScratch& scratch) {
  const int n = std::min(kInnerColumns, group.inner - column);
  float* up = scratch.rows.take<float>(std::size_t{kTokenBlock} * kInnerColumns);
  float* up_rows[kTokenBlock];
  for (int i = 0; i < kTokenBlock; ++i) up_rows[i] = row_at(up, i, kInnerColumns);
  for (int begin = 0; begin < group.count; begin += kTokenBlock) {
    const int entry = group.first + begin;
    DotProduct product;
    product.x = batch.x + entry;
    product.m = std::min(kTokenBlock, group.count - begin);
    product.n = n;
    product.k = batch.hidden_size;
    product.out = batch.act + entry;
    product.out_column = column;
    product.w = rows_from(group.weights->gate, column);
    multiply_dot(product);
    product.out = up_rows;
    product.out_column = 0;
    product.w = rows_from(group.weights->up, column);
    multiply_dot(product);
    for (int i = 0; i < product.m; ++i) {
      silu_multiply(batch.act[entry + i] + column, up_rows[i], static_cast<std::size_t>(n));
    }
  }
}

void down_slab(const Batch& batch, int column, int n) {
  for (int g = 0; g < batch.num_groups; ++g) {
    const Group& group = batch.groups[g];
    DotProduct product;
    product.x = batch.act + group.first;
    product.out = batch.out + group.first;
    product.scale = group.weighted ? batch.weights + group.first : nullptr;
    product.out_column = column;
    product.m = group.count;
    product.n = n;
    product.k = group.inner;
    product.accumulate = true;
    product.w = rows_from(group.weights->down, column);
    multiply_dot(product);
  }
}

void run_groups(CpuContext& context, const Batch& batch) {
  int num_items = 0;
  double down_cost = 1.0;  // multiply-adds a column
  for (int g = 0; g < batch.num_groups; ++g) {
    const Group& group = batch.groups[g];
    num_items += (group.inner + kInnerColumns - 1) / kInnerColumns;
    down_cost += static_cast<double>(group.inner) * group.count;
  }
  Item* items = context.items.take<Item>(static_cast<std::size_t>(num_items));
  int filled = 0;
  for (int g = 0; g < batch.num_groups; ++g) {
    for (int column = 0; column < batch.groups[g].inner; column += kInnerColumns) {
      items[filled++] = {g, column};
    }
  }
  context.pool.parallel_for(num_items, [&](int i, int worker) {
    gate_up_slab(batch, batch.groups[items[i].group], items[i].column, context.scratch(worker));
  });

  const int columns = columns_per_item(context, batch.hidden_size, down_cost);
  context.pool.parallel_for(
      (batch.hidden_size + columns - 1) / columns, [&](int item, int /*worker*/) {
        const int column = item * columns;
        down_slab(batch, column, std::min(columns, batch.hidden_size - column));
      });
}

int inner_size(const MlpWeights& weights) {
  return weights.gate.is_set() ? static_cast<int>(weights.gate.dim(0)) : 0;
}

}  // namespace

void mlp(CpuContext& context, const MlpParams& p) {
  if (p.num_tokens == 0) return;
  const auto tokens = static_cast<std::size_t>(p.num_tokens);
  const auto hidden = static_cast<std::size_t>(p.hidden_size);
  const Group group{p.weights, 0, p.num_tokens, inner_size(*p.weights), false};
  auto* x = context.x_rows.take<const float*>(tokens);
  auto* act = context.act_rows.take<float*>(tokens);
  auto* out = context.out_rows.take<float*>(tokens);
  for (std::size_t t = 0; t < tokens; ++t) {
    x[t] = static_cast<const float*>(p.x) + t * hidden;
    act[t] = static_cast<float*>(p.gate_up) + t * static_cast<std::size_t>(group.inner);
    out[t] = static_cast<float*>(p.hidden) + t * hidden;
  }
  run_groups(context, {&group, 1, x, act, out, nullptr, p.hidden_size});
}

void experts(CpuContext& context, const ExpertsParams& p) {
  if (p.num_tokens == 0) return;
  const MoeWeights& weights = *p.weights;
  const int inner = inner_size(weights.experts[0]);
  const int shared_inner = inner_size(weights.shared);
  const auto tokens = static_cast<std::size_t>(p.num_tokens);
  const auto top_k = static_cast<std::size_t>(p.experts_per_token);
  const auto hidden = static_cast<std::size_t>(p.hidden_size);
  const auto num_experts = static_cast<std::size_t>(p.num_experts);
  const std::size_t routed = tokens * top_k;
  const std::size_t entries = routed + (shared_inner > 0 ? tokens : 0);
  const std::size_t act_width =
      top_k * static_cast<std::size_t>(inner) + static_cast<std::size_t>(shared_inner);

  auto* x = context.x_rows.take<const float*>(entries);
  auto* act = context.act_rows.take<float*>(entries);
  auto* out = context.out_rows.take<float*>(entries);
  auto* scale = context.weights.take<float>(entries);
  std::byte* plan = context.plan.take<std::byte>((num_experts + 1) * (sizeof(Group) + sizeof(int)));
  auto* groups = reinterpret_cast<Group*>(plan);
  auto* next = reinterpret_cast<int*>(plan + (num_experts + 1) * sizeof(Group));

  // Entries sorted by expert: count, then place.
  std::fill_n(next, num_experts + 1, 0);
  for (std::size_t i = 0; i < routed; ++i) {
    const int expert = p.expert_ids[i];
    LATENTD_CHECK(expert >= 0 && expert < p.num_experts, "expert {} of token {} outside [0, {})",
                  expert, i / top_k, p.num_experts);
    ++next[expert + 1];
  }
  int num_groups = 0;
  for (std::size_t e = 0; e < num_experts; ++e) {
    const int count = next[e + 1];
    next[e + 1] += next[e];
    if (count > 0) groups[num_groups++] = {&weights.experts[e], next[e], count, inner, true};
  }
  const auto fill = [&](std::size_t entry, std::size_t token, std::size_t act_column) {
    x[entry] = static_cast<const float*>(p.x) + token * hidden;
    act[entry] = static_cast<float*>(p.gate_up) + token * act_width + act_column;
    out[entry] = static_cast<float*>(p.hidden) + token * hidden;
  };
  for (std::size_t i = 0; i < routed; ++i) {
    const auto entry = static_cast<std::size_t>(next[p.expert_ids[i]]++);
    fill(entry, i / top_k, i % top_k * static_cast<std::size_t>(inner));
    scale[entry] = p.expert_weights[i];
  }
  if (shared_inner > 0) {
    for (std::size_t t = 0; t < tokens; ++t) {
      fill(routed + t, t, top_k * static_cast<std::size_t>(inner));
    }
    groups[num_groups++] = {&weights.shared, static_cast<int>(routed), p.num_tokens, shared_inner,
                            false};
  }
  run_groups(context, {groups, num_groups, x, act, out, scale, p.hidden_size});
}

}  // namespace latentd::cpu
