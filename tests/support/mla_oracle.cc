#include "tests/support/mla_oracle.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <numeric>

#include "base/check.h"
#include "tests/support/fp8_oracle.h"
#include "tests/support/gqa_oracle.h"

namespace latentd::oracle {
namespace {

std::size_t to_size(std::int64_t value) { return static_cast<std::size_t>(value); }

// Element `index` of a tensor.
double element(const TensorView& tensor, std::size_t index) {
  const auto* bytes = static_cast<const char*>(tensor.data);
  if (tensor.dtype == DType::kF32) {
    float value = 0.0F;
    std::memcpy(&value, bytes + index * sizeof(value), sizeof(value));
    return value;
  }
  LATENTD_CHECK(tensor.dtype == DType::kBF16, "weights are bf16 or fp32, not {}",
                dtype_name(tensor.dtype));
  BFloat16 value{};
  std::memcpy(&value, bytes + index * sizeof(value), sizeof(value));
  return to_float(value);
}

double dot(std::span<const double> a, std::span<const double> b) {
  LATENTD_CHECK(a.size() == b.size(), "dot of {} and {}", a.size(), b.size());
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

Vector softmax(Vector scores) {
  const double highest = *std::max_element(scores.begin(), scores.end());
  double total = 0.0;
  for (double& score : scores) total += score = std::exp(score - highest);
  for (double& score : scores) score /= total;
  return scores;
}

void add_scaled(Vector& sum, std::span<const double> x, double scale) {
  LATENTD_CHECK(sum.size() == x.size(), "sum of {} and {}", sum.size(), x.size());
  for (std::size_t i = 0; i < x.size(); ++i) sum[i] += scale * x[i];
}

void round_to_bf16(std::span<double> values) {
  for (double& value : values) value = to_float(to_bfloat16(static_cast<float>(value)));
}

// What a cache of `dtype` keeps of a row: latents [kv_lora_rank], then rope values.
void round_to_cache(DType dtype, int kv_lora_rank, Vector& row) {
  if (dtype == DType::kBF16) return round_to_bf16(row);
  if (dtype != DType::kF8E4M3) return;
  const auto latents = std::span(row).first(to_size(kv_lora_rank));
  const Vector stored = quantize(latents).values();
  std::copy(stored.begin(), stored.end(), latents.begin());
  round_to_bf16(std::span(row).subspan(latents.size()));
}

// Rows first .. first + count - 1 of the [H, N + V, K] matrix of one head, times `c` [K].
Vector head_rows_times(const TensorView& kv_b, int head, int first, int count,
                       std::span<const double> c) {
  const std::size_t columns = to_size(kv_b.dim(2));
  Vector out(to_size(count), 0.0);
  for (int row = 0; row < count; ++row) {
    const std::size_t start = to_size(head * kv_b.dim(1) + first + row) * columns;
    for (std::size_t k = 0; k < columns; ++k) {
      out[to_size(row)] += element(kv_b, start + k) * c[k];
    }
  }
  return out;
}

// As published with Llama 3.1: by the length of the pair's wave.
double llama3_frequency(const RopeConfig& c, double plain) {
  const double wave = 2.0 * std::numbers::pi / plain;
  const double context = c.original_max_position;
  if (wave < context / c.high_freq_factor) return plain;
  if (wave > context / c.low_freq_factor) return plain / c.factor;
  const double smooth =
      (context / wave - c.low_freq_factor) / (c.high_freq_factor - c.low_freq_factor);
  return (1.0 - smooth) * plain / c.factor + smooth * plain;
}

// yarn, arXiv:2309.00071: frequencies of fast pairs are kept, of slow ones divided by the factor.
double frequency(const RopeConfig& c, int pair, int rope_dim) {
  const double plain = 1.0 / std::pow(c.theta, 2.0 * pair / rope_dim);
  if (c.kind == RopeKind::kPlain) return plain;
  if (c.kind == RopeKind::kLinear) return plain / c.factor;
  if (c.kind == RopeKind::kLlama3) return llama3_frequency(c, plain);
  const auto correction = [&](double rotations) {
    return rope_dim * std::log(c.original_max_position / (rotations * 2.0 * std::numbers::pi)) /
           (2.0 * std::log(c.theta));
  };
  const double low = std::max(std::floor(correction(c.beta_fast)), 0.0);
  double high = std::min(std::ceil(correction(c.beta_slow)), rope_dim - 1.0);
  if (low == high) high += 0.001;
  const double ramp = std::min(1.0, std::max(0.0, (pair - low) / (high - low)));
  return plain / c.factor * ramp + plain * (1.0 - ramp);
}

double mscale(const RopeConfig& c, double weight) {
  return c.factor > 1.0 ? 0.1 * weight * std::log(c.factor) + 1.0 : 1.0;
}

// The `count` best of `candidates` by `value`, lower index first on ties.
template <typename Value>
std::vector<int> best_of(std::vector<int> candidates, int count, const Value& value) {
  std::stable_sort(candidates.begin(), candidates.end(),
                   [&](int a, int b) { return value(a) > value(b); });
  candidates.resize(to_size(count));
  return candidates;
}

// The experts that may be chosen: those of the best groups.
std::vector<int> eligible_experts(std::span<const double> choice, const MoeConfig& config) {
  std::vector<int> experts(choice.size());
  std::iota(experts.begin(), experts.end(), 0);
  if (config.selection == ExpertSelection::kGreedy || config.num_groups == 1) return experts;
  const int group_size = config.num_experts / config.num_groups;
  const int summed = config.selection == ExpertSelection::kGroupLimitedTop2 ? 2 : 1;
  const auto group_score = [&](int group) {
    const auto of_group = choice.subspan(to_size(group) * to_size(group_size), to_size(group_size));
    Vector members(of_group.begin(), of_group.end());
    std::sort(members.rbegin(), members.rend());
    return std::accumulate(members.begin(), members.begin() + summed, 0.0);
  };
  std::vector<int> groups(to_size(config.num_groups));
  std::iota(groups.begin(), groups.end(), 0);
  const auto kept = best_of(groups, config.groups_per_token, group_score);
  std::erase_if(experts, [&](int expert) {
    return std::find(kept.begin(), kept.end(), expert / group_size) == kept.end();
  });
  return experts;
}

}  // namespace

Vector widen(const TensorView& tensor) {
  Vector out(to_size(tensor.num_elements()));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = element(tensor, i);
  return out;
}

Vector matvec(const TensorView& weight, std::span<const double> x) {
  const std::size_t outputs = to_size(weight.num_elements()) / x.size();
  LATENTD_CHECK(to_size(weight.dim(weight.rank - 1)) == x.size(), "{} times a vector of {}",
                weight.to_string(), x.size());
  Vector out(outputs, 0.0);
  for (std::size_t row = 0; row < outputs; ++row) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      out[row] += element(weight, row * x.size() + i) * x[i];
    }
  }
  return out;
}

Vector rms_norm(std::span<const double> x, const TensorView& weight, double eps) {
  LATENTD_CHECK(to_size(weight.num_elements()) == x.size(), "norm {} of a vector of {}",
                weight.to_string(), x.size());
  const double mean_square = dot(x, x) / static_cast<double>(x.size());
  Vector out(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    out[i] = x[i] / std::sqrt(mean_square + eps) * element(weight, i);
  }
  return out;
}

void rope(std::span<double> x, int position, const RopeConfig& config) {
  const int rope_dim = static_cast<int>(x.size());
  const double magnitude =
      config.kind == RopeKind::kYarn
          ? mscale(config, config.mscale) / mscale(config, config.mscale_all_dim)
          : 1.0;
  for (int pair = 0; pair < rope_dim / 2; ++pair) {
    double& a = x[to_size(config.interleaved ? 2 * pair : pair)];
    double& b = x[to_size(config.interleaved ? 2 * pair + 1 : pair + rope_dim / 2)];
    const double angle = position * frequency(config, pair, rope_dim);
    const double cosine = std::cos(angle) * magnitude;
    const double sine = std::sin(angle) * magnitude;
    const double rotated = a * cosine - b * sine;
    b = a * sine + b * cosine;
    a = rotated;
  }
}

AttentionShape attention_shape(const ModelConfig& config) {
  double scale = 1.0 / std::sqrt(static_cast<double>(config.qk_head_dim()));
  if (config.rope.kind == RopeKind::kYarn && config.rope.mscale_all_dim != 0.0) {
    const double m = mscale(config.rope, config.rope.mscale_all_dim);
    scale *= m * m;
  }
  return {config.num_heads,        config.kv_lora_rank, config.qk_nope_head_dim,
          config.qk_rope_head_dim, config.v_head_dim,   scale};
}

Vector attention(const AttentionShape& shape, std::span<const double> q,
                 std::span<const double> latents, const TensorView& kv_b) {
  const std::size_t row = shape.latent_size();
  const std::size_t num_tokens = latents.size() / row;
  LATENTD_CHECK(q.size() == shape.q_size() && latents.size() == num_tokens * row && num_tokens > 0,
                "attention of {} query elements over {} latent elements", q.size(), latents.size());
  const std::size_t nope = to_size(shape.nope_dim);
  const std::size_t rope_size = to_size(shape.rope_dim);
  Vector out;
  for (int head = 0; head < shape.num_heads; ++head) {
    const auto query = q.subspan(to_size(head) * (nope + rope_size), nope + rope_size);
    Vector scores;
    std::vector<Vector> values;
    for (std::size_t t = 0; t < num_tokens; ++t) {
      const auto latent = latents.subspan(t * row, row);
      const auto c = latent.first(to_size(shape.kv_lora_rank));
      const Vector key = head_rows_times(kv_b, head, 0, shape.nope_dim, c);
      scores.push_back(
          (dot(query.first(nope), key) + dot(query.last(rope_size), latent.last(rope_size))) *
          shape.softmax_scale);
      values.push_back(head_rows_times(kv_b, head, shape.nope_dim, shape.v_dim, c));
    }
    const Vector probabilities = softmax(std::move(scores));
    Vector sum(to_size(shape.v_dim), 0.0);
    for (std::size_t t = 0; t < num_tokens; ++t) add_scaled(sum, values[t], probabilities[t]);
    out.insert(out.end(), sum.begin(), sum.end());
  }
  return out;
}

Vector attend_latents(int kv_lora_rank, double scale, std::span<const double> q,
                      std::span<const double> rows) {
  const std::size_t width = q.size();
  Vector scores;
  for (std::size_t j = 0; j < rows.size(); j += width) {
    scores.push_back(scale * dot(q, rows.subspan(j, width)));
  }
  scores = softmax(std::move(scores));
  Vector out(to_size(kv_lora_rank));
  for (std::size_t j = 0; j < scores.size(); ++j) {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] += scores[j] * rows[j * width + i];
  }
  return out;
}

Routing route(std::span<const double> logits, std::span<const double> bias,
              const MoeConfig& config) {
  Vector scores(logits.begin(), logits.end());
  if (config.scoring == GateScoring::kSoftmax) {
    scores = softmax(std::move(scores));
  } else {
    for (double& score : scores) score = 1.0 / (1.0 + std::exp(-score));
  }
  Vector choice = scores;
  if (!bias.empty()) add_scaled(choice, bias, 1.0);

  Routing routing;
  routing.experts = best_of(eligible_experts(choice, config), config.experts_per_token,
                            [&](int expert) { return choice[to_size(expert)]; });
  std::sort(routing.experts.begin(), routing.experts.end());
  double total = 0.0;
  for (const int expert : routing.experts) total += scores[to_size(expert)];
  for (const int expert : routing.experts) {
    const double weight = scores[to_size(expert)];
    routing.weights.push_back((config.normalize_weights ? weight / total : weight) *
                              static_cast<double>(config.weight_scale));
  }
  return routing;
}

Vector mlp(const MlpWeights& weights, std::span<const double> x) {
  Vector gate = matvec(weights.gate, x);
  const Vector up = matvec(weights.up, x);
  for (std::size_t i = 0; i < gate.size(); ++i) {
    gate[i] = gate[i] / (1.0 + std::exp(-gate[i])) * up[i];
  }
  return matvec(weights.down, gate);
}

Vector moe(const MoeWeights& weights, std::span<const double> x, const MoeConfig& config) {
  const Vector bias = weights.correction_bias.is_set() ? widen(weights.correction_bias) : Vector{};
  const Routing routing = route(matvec(weights.router, x), bias, config);
  Vector out(x.size(), 0.0);
  for (std::size_t i = 0; i < routing.experts.size(); ++i) {
    add_scaled(out, mlp(weights.experts[to_size(routing.experts[i])], x), routing.weights[i]);
  }
  if (weights.shared.gate.is_set()) add_scaled(out, mlp(weights.shared, x), 1.0);
  return out;
}

Vector latent_row(const ModelConfig& config, const MlaWeights& weights, std::span<const double> x,
                  int position) {
  const Vector kv_a = matvec(weights.kv_a, x);
  const std::span<const double> parts(kv_a);
  Vector row = rms_norm(parts.first(to_size(config.kv_lora_rank)), weights.kv_a_norm,
                        static_cast<double>(config.latent_norm_eps));
  Vector key(kv_a.begin() + config.kv_lora_rank, kv_a.end());
  rope(key, position, config.rope);
  row.insert(row.end(), key.begin(), key.end());
  return row;
}

Vector query_row(const ModelConfig& config, const MlaWeights& weights, std::span<const double> x,
                 int position) {
  Vector q = config.q_lora_rank == 0
                 ? matvec(weights.q, x)
                 : matvec(weights.q_b, rms_norm(matvec(weights.q_a, x), weights.q_a_norm,
                                                static_cast<double>(config.latent_norm_eps)));
  const std::size_t head_size = to_size(config.qk_head_dim());
  for (int head = 0; head < config.num_heads; ++head) {
    const auto query = std::span(q).subspan(to_size(head) * head_size, head_size);
    rope(query.last(to_size(config.qk_rope_head_dim)), position, config.rope);
  }
  return q;
}

void add_latent_attention(const ModelConfig& config, const MlaWeights& weights,
                          std::vector<Vector>& hidden, DType cache_dtype) {
  const AttentionShape shape = attention_shape(config);
  Vector latents;  // grows by a row a token: what the cache holds
  for (std::size_t t = 0; t < hidden.size(); ++t) {
    const int position = static_cast<int>(t);
    const Vector x =
        rms_norm(hidden[t], weights.input_norm, static_cast<double>(config.rms_norm_eps));
    Vector latent = latent_row(config, weights, x, position);
    round_to_cache(cache_dtype, config.kv_lora_rank, latent);
    latents.insert(latents.end(), latent.begin(), latent.end());
    const Vector q = query_row(config, weights, x, position);
    add_scaled(hidden[t], matvec(weights.o, attention(shape, q, latents, weights.kv_b)), 1.0);
  }
}

std::vector<Vector> forward(const ModelConfig& config, const ModelWeights& weights,
                            std::span<const TokenId> tokens, DType cache_dtype) {
  const double eps = static_cast<double>(config.rms_norm_eps);
  const std::size_t width = to_size(config.hidden_size);
  std::vector<Vector> hidden;
  for (const TokenId token : tokens) {
    Vector& row = hidden.emplace_back(width);
    for (std::size_t i = 0; i < width; ++i) {
      row[i] = element(weights.embedding, to_size(token) * width + i);
    }
  }
  for (int layer = 0; layer < config.num_layers; ++layer) {
    const LayerWeights& w = weights.layers[to_size(layer)];
    if (config.attention == AttentionKind::kLatent) {
      add_latent_attention(config, w.mla, hidden, cache_dtype);
    } else {
      add_grouped_attention(config, w.gqa, hidden, cache_dtype);
    }
    for (Vector& row : hidden) {
      const Vector x = rms_norm(row, w.post_attention_norm, eps);
      add_scaled(row, config.is_moe_layer(layer) ? moe(w.moe, x, config.moe) : mlp(w.mlp, x), 1.0);
    }
  }
  std::vector<Vector> logits;
  logits.reserve(hidden.size());
  for (const Vector& row : hidden) {
    logits.push_back(matvec(weights.lm_head, rms_norm(row, weights.final_norm, eps)));
  }
  return logits;
}

double relative_error(std::span<const double> actual, std::span<const double> expected) {
  LATENTD_CHECK(actual.size() == expected.size(), "comparing {} with {}", actual.size(),
                expected.size());
  double difference = 0.0;
  double largest = 0.0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double d = std::abs(actual[i] - expected[i]);
    if (std::isnan(d)) return std::numeric_limits<double>::infinity();
    difference = std::max(difference, d);
    largest = std::max(largest, std::abs(expected[i]));
  }
  return difference == 0.0 ? 0.0 : difference / largest;
}

}  // namespace latentd::oracle
