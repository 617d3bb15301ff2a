// prepare, embed, gather, rms_norm, linear.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "engine/backend/cpu/cpu_ops.h"
#include "engine/backend/cpu/matmul_kernels.h"
#include "engine/backend/cpu/row_at.h"
#include "engine/backend/cpu/vector_kernels.h"

namespace latentd::cpu {
namespace {

constexpr int kTokensPerItem = 16;

// Calls body(i) for every i in [0, count), a run of them an item.
template <typename Body>
void for_each_row(CpuContext& context, int count, const Body& body) {
  const int items = (count + kTokensPerItem - 1) / kTokensPerItem;
  context.pool.parallel_for(items, [&](int item, int /*worker*/) {
    const int end = std::min(count, (item + 1) * kTokensPerItem);
    for (int i = item * kTokensPerItem; i < end; ++i) body(i);
  });
}

}  // namespace

void prepare(CpuContext& /*context*/, const PrepareParams& p) {
  for (int i = 0; i < p.num_updates; ++i) {
    const SlotUpdate& update = p.updates[i];
    LATENTD_CHECK(update.index >= 0 && update.index < p.max_pages,
                  "page table index {} of slot {} outside [0, {})", update.index, update.slot,
                  p.max_pages);
    row_at(p.page_table, update.slot, p.max_pages)[update.index] = update.page;
  }
  for (int i = 0; i < p.num_tokens; ++i) {
    if (p.tokens[i] == -1) p.tokens[i] = p.last_tokens[p.token_slots[i]];
  }
}

void embed(CpuContext& context, const EmbedParams& p) {
  const std::int64_t vocab = p.table.dim(0);
  const auto width = static_cast<std::size_t>(p.table.dim(1));
  const std::size_t row_bytes = width * dtype_size(p.table.dtype);
  for_each_row(context, p.num_tokens, [&](int t) {
    const TokenId token = p.tokens[t];
    LATENTD_CHECK(token >= 0 && token < vocab, "token {} outside [0, {})", token, vocab);
    const char* row =
        static_cast<const char*>(p.table.data) + static_cast<std::size_t>(token) * row_bytes;
    load_as_f32(row, p.table.dtype,
                static_cast<float*>(p.out) + static_cast<std::size_t>(t) * width, width);
  });
}

void gather(CpuContext& /*context*/, const GatherParams& p) {
  const auto width = static_cast<std::size_t>(p.hidden_size);
  for (int i = 0; i < p.num_rows; ++i) {
    std::memcpy(row_at(static_cast<float*>(p.out), i, p.hidden_size),
                row_at(static_cast<const float*>(p.hidden), p.token_indices[i], p.hidden_size),
                width * sizeof(float));
  }
}

void rms_norm(CpuContext& context, const RmsNormParams& p) {
  const auto dim = static_cast<std::size_t>(p.dim);
  float* weight = context.weights.take<float>(dim);
  load_as_f32(p.weight.data, p.weight.dtype, weight, dim);
  for_each_row(context, p.num_rows, [&](int i) {
    rms_norm_row(row_at(static_cast<const float*>(p.x), i, p.x_stride), weight,
                 row_at(static_cast<float*>(p.out), i, p.out_stride), dim, p.eps);
  });
}

void linear(CpuContext& context, const LinearParams& p) {
  const int outputs = static_cast<int>(p.weight.dim(0));
  const int inputs = static_cast<int>(p.weight.dim(1));
  const auto rows = static_cast<std::size_t>(p.num_rows);
  auto* x = context.x_rows.take<const float*>(rows);
  auto* out = context.out_rows.take<float*>(rows);
  for (int i = 0; i < p.num_rows; ++i) {
    x[i] = row_at(static_cast<const float*>(p.x), i, inputs);
    out[i] = row_at(static_cast<float*>(p.out), i, outputs);
  }
  const std::size_t row_bytes = static_cast<std::size_t>(inputs) * dtype_size(p.weight.dtype);
  const int columns =
      columns_per_item(context, outputs, static_cast<double>(inputs) * p.num_rows + 1.0);
  const int items = (outputs + columns - 1) / columns;
  context.pool.parallel_for(items, [&](int item, int /*worker*/) {
    DotProduct product;
    product.x = x;
    product.out = out;
    product.out_column = item * columns;
    product.m = p.num_rows;
    product.n = std::min(columns, outputs - item * columns);
    product.k = inputs;
    product.accumulate = p.accumulate;
    product.w = {row_at(static_cast<const char*>(p.weight.data), std::int64_t{item} * columns,
                        static_cast<std::int64_t>(row_bytes)),
                 row_bytes, nullptr, p.weight.dtype};
    multiply_dot(product);
  });
}

}  // namespace latentd::cpu
