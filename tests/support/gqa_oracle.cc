#include "tests/support/gqa_oracle.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"

namespace latentd::oracle {
namespace {

std::size_t to_size(int value) { return static_cast<std::size_t>(value); }

// Rotates every head of `heads`.
void rotate_heads(std::span<double> heads, int head_dim, int position, const RopeConfig& config) {
  for (std::size_t at = 0; at < heads.size(); at += to_size(head_dim)) {
    rope(heads.subspan(at, to_size(head_dim)), position, config);
  }
}

// What a cache of `dtype` keeps of a row.
void append(Vector& rows, std::span<const double> row, DType dtype) {
  for (const double value : row) {
    rows.push_back(dtype == DType::kBF16
                       ? static_cast<double>(to_float(to_bfloat16(static_cast<float>(value))))
                       : value);
  }
}

}  // namespace

Vector grouped_attention(const GroupedShape& shape, std::span<const double> q,
                         std::span<const double> keys, std::span<const double> values) {
  const std::size_t width = to_size(shape.head_dim);
  const std::size_t row = to_size(shape.num_kv_heads) * width;
  const std::size_t tokens = keys.size() / row;
  LATENTD_CHECK(keys.size() == values.size() && q.size() == to_size(shape.num_heads) * width,
                "{} keys, {} values, {} queries", keys.size(), values.size(), q.size());
  Vector out(q.size(), 0.0);
  for (int head = 0; head < shape.num_heads; ++head) {
    const std::size_t kv_head = to_size(head * shape.num_kv_heads / shape.num_heads);
    const auto query = q.subspan(to_size(head) * width, width);
    Vector weights(tokens);
    for (std::size_t t = 0; t < tokens; ++t) {
      const auto key = keys.subspan(t * row + kv_head * width, width);
      weights[t] =
          shape.softmax_scale * std::inner_product(query.begin(), query.end(), key.begin(), 0.0);
    }
    const double highest = *std::max_element(weights.begin(), weights.end());
    double total = 0.0;
    for (double& weight : weights) total += weight = std::exp(weight - highest);
    for (std::size_t t = 0; t < tokens; ++t) {
      for (std::size_t i = 0; i < width; ++i) {
        out[to_size(head) * width + i] +=
            weights[t] / total * values[t * row + kv_head * width + i];
      }
    }
  }
  return out;
}

void add_grouped_attention(const ModelConfig& config, const GqaWeights& weights,
                           std::vector<Vector>& hidden, DType cache_dtype) {
  const int head_dim = config.qk_head_dim();
  const GroupedShape shape{config.num_heads, config.num_kv_heads, head_dim,
                           1.0 / std::sqrt(static_cast<double>(head_dim))};
  Vector keys;  // grow by a row a token: what the cache holds
  Vector values;
  for (std::size_t t = 0; t < hidden.size(); ++t) {
    const int position = static_cast<int>(t);
    const Vector x =
        rms_norm(hidden[t], weights.input_norm, static_cast<double>(config.rms_norm_eps));
    Vector q = matvec(weights.q, x);
    Vector key = matvec(weights.k, x);
    rotate_heads(q, head_dim, position, config.rope);
    rotate_heads(key, head_dim, position, config.rope);
    append(keys, key, cache_dtype);
    append(values, matvec(weights.v, x), cache_dtype);
    const Vector out = matvec(weights.o, grouped_attention(shape, q, keys, values));
    for (std::size_t i = 0; i < out.size(); ++i) hidden[t][i] += out[i];
  }
}

}  // namespace latentd::oracle
