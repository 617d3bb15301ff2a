#include "engine/bench/random_weights.h"

#include <cmath>
#include <cstring>

namespace latentd {
namespace {

void store(std::byte* data, DType dtype, std::size_t index, float value) {
  if (dtype == DType::kBF16) {
    const BFloat16 narrow = to_bfloat16(value);
    std::memcpy(data + index * sizeof(narrow), &narrow, sizeof(narrow));
  } else {
    std::memcpy(data + index * sizeof(value), &value, sizeof(value));
  }
}

// splitmix64 (Steele, Lea, Flood, OOPSLA 2014): fast, and good enough for weights.
std::uint64_t next_random(std::uint64_t& state) {
  std::uint64_t z = (state += 0x9e3779b97f4a7c15U);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

}  // namespace

RandomWeights::RandomWeights(const ModelConfig& config, std::uint64_t seed)
    : config_(config), state_(seed) {
  weights_.embedding = matrix(config.vocab_size, config.hidden_size);
  for (int layer = 0; layer < config.num_layers; ++layer) {
    LayerWeights& w = weights_.layers.emplace_back();
    fill_attention(w.attention);
    w.post_attention_norm = constant(config.hidden_size, 1.0F, config.dtype);
    if (config.is_moe_layer(layer)) {
      fill_moe(w.moe);
    } else {
      w.mlp = mlp(config.intermediate_size);
    }
  }
  weights_.final_norm = constant(config.hidden_size, 1.0F, config.dtype);
  weights_.lm_head = config.tie_word_embeddings ? weights_.embedding
                                                : matrix(config.vocab_size, config.hidden_size);
}

std::byte* RandomWeights::allocate(std::size_t bytes) {
  memory_.push_back(std::make_unique_for_overwrite<std::byte[]>(bytes));
  return memory_.back().get();
}

TensorView RandomWeights::matrix(std::int64_t outputs, std::int64_t inputs) {
  const auto count = static_cast<std::size_t>(outputs * inputs);
  std::byte* data = allocate(count * dtype_size(config_.dtype));
  // Uniform in [-a, a] has variance a^2 / 3.
  const double limit = std::sqrt(3.0 / static_cast<double>(inputs));
  for (std::size_t i = 0; i < count; ++i) {
    const double unit = static_cast<double>(next_random(state_) >> 11) * 0x1p-53;
    store(data, config_.dtype, i, static_cast<float>((2.0 * unit - 1.0) * limit));
  }
  return make_tensor_view(data, config_.dtype, {outputs, inputs});
}

TensorView RandomWeights::constant(std::int64_t n, float value, DType dtype) {
  const auto count = static_cast<std::size_t>(n);
  std::byte* data = allocate(count * dtype_size(dtype));
  for (std::size_t i = 0; i < count; ++i) store(data, dtype, i, value);
  return make_tensor_view(data, dtype, {n});
}

MlpWeights RandomWeights::mlp(int inner) {
  const int hidden = config_.hidden_size;
  return {matrix(inner, hidden), matrix(inner, hidden), matrix(hidden, inner)};
}

void RandomWeights::fill_attention(MlaWeights& attention) {
  const ModelConfig& c = config_;
  attention.input_norm = constant(c.hidden_size, 1.0F, c.dtype);
  const std::int64_t q_outputs = std::int64_t{c.num_heads} * c.qk_head_dim();
  if (c.q_lora_rank == 0) {
    attention.q = matrix(q_outputs, c.hidden_size);
  } else {
    attention.q_a = matrix(c.q_lora_rank, c.hidden_size);
    attention.q_a_norm = constant(c.q_lora_rank, 1.0F, c.dtype);
    attention.q_b = matrix(q_outputs, c.q_lora_rank);
  }
  attention.kv_a = matrix(c.latent_dim(), c.hidden_size);
  attention.kv_a_norm = constant(c.kv_lora_rank, 1.0F, c.dtype);
  const std::int64_t head_rows = c.qk_nope_head_dim + c.v_head_dim;
  const TensorView kv_b = matrix(c.num_heads * head_rows, c.kv_lora_rank);
  attention.kv_b =
      make_tensor_view(kv_b.data, kv_b.dtype, {c.num_heads, head_rows, c.kv_lora_rank});
  attention.o = matrix(c.hidden_size, std::int64_t{c.num_heads} * c.v_head_dim);
}

void RandomWeights::fill_moe(MoeWeights& moe) {
  const MoeConfig& c = config_.moe;
  moe.router = matrix(c.num_experts, config_.hidden_size);
  if (c.correction_bias) moe.correction_bias = constant(c.num_experts, 0.0F, DType::kF32);
  for (int e = 0; e < c.num_experts; ++e) moe.experts.push_back(mlp(c.intermediate_size));
  if (c.num_shared_experts > 0) moe.shared = mlp(c.num_shared_experts * c.intermediate_size);
}

}  // namespace latentd
