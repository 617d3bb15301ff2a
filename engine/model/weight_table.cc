#include "engine/model/weight_table.h"

#include <spdlog/fmt/fmt.h>

#include <utility>

namespace latentd {
namespace {

// Writes the table for a config. Targets lie in `weights`, whose vectors are sized first.
class BindingTable {
 public:
  BindingTable(const ModelConfig& config, ModelWeights& weights) : config_(config) {
    weights.layers.resize(static_cast<std::size_t>(config.num_layers));
    add("model.embed_tokens.weight", {config.vocab_size, config.hidden_size}, weights.embedding);
    for (int layer = 0; layer < config.num_layers; ++layer) {
      add_layer(fmt::format("model.layers.{}.", layer), config.is_moe_layer(layer),
                weights.layers[static_cast<std::size_t>(layer)]);
    }
    add("model.norm.weight", {config.hidden_size}, weights.final_norm);
    if (!config.tie_word_embeddings) {
      add("lm_head.weight", {config.vocab_size, config.hidden_size}, weights.lm_head);
    }
  }

  std::vector<WeightRow> rows() && { return std::move(rows_); }

 private:
  void add(std::string name, const std::vector<std::int64_t>& shape, TensorView& target) {
    rows_.push_back({std::move(name), shape, &target, shape});
  }

  void add_layer(const std::string& prefix, bool is_moe, LayerWeights& layer) {
    if (config_.attention == AttentionKind::kLatent) {
      add(prefix + "input_layernorm.weight", {config_.hidden_size}, layer.mla.input_norm);
      add_mla(prefix + "self_attn.", layer.mla);
    } else {
      add(prefix + "input_layernorm.weight", {config_.hidden_size}, layer.gqa.input_norm);
      add_gqa(prefix + "self_attn.", layer.gqa);
    }
    add(prefix + "post_attention_layernorm.weight", {config_.hidden_size},
        layer.post_attention_norm);
    if (is_moe) {
      add_moe(prefix + "mlp.", layer.moe);
    } else {
      add_mlp(prefix + "mlp.", config_.intermediate_size, layer.mlp);
    }
  }

  void add_gqa(const std::string& prefix, GqaWeights& gqa) {
    const std::int64_t query = std::int64_t{config_.num_heads} * config_.qk_head_dim();
    const std::int64_t key = std::int64_t{config_.num_kv_heads} * config_.qk_head_dim();
    add(prefix + "q_proj.weight", {query, config_.hidden_size}, gqa.q);
    add(prefix + "k_proj.weight", {key, config_.hidden_size}, gqa.k);
    add(prefix + "v_proj.weight", {key, config_.hidden_size}, gqa.v);
    add(prefix + "o_proj.weight", {config_.hidden_size, query}, gqa.o);
  }

  void add_mla(const std::string& prefix, MlaWeights& mla) {
    const std::int64_t heads = config_.num_heads;
    const std::int64_t q_rows = heads * config_.qk_head_dim();
    if (config_.q_lora_rank == 0) {
      add(prefix + "q_proj.weight", {q_rows, config_.hidden_size}, mla.q);
    } else {
      add(prefix + "q_a_proj.weight", {config_.q_lora_rank, config_.hidden_size}, mla.q_a);
      add(prefix + "q_a_layernorm.weight", {config_.q_lora_rank}, mla.q_a_norm);
      add(prefix + "q_b_proj.weight", {q_rows, config_.q_lora_rank}, mla.q_b);
    }
    add(prefix + "kv_a_proj_with_mqa.weight", {config_.latent_dim(), config_.hidden_size},
        mla.kv_a);
    add(prefix + "kv_a_layernorm.weight", {config_.kv_lora_rank}, mla.kv_a_norm);
    const std::int64_t kv_rows = config_.qk_nope_head_dim + config_.v_head_dim;
    rows_.push_back({prefix + "kv_b_proj.weight",
                     {heads * kv_rows, config_.kv_lora_rank},
                     &mla.kv_b,
                     {heads, kv_rows, config_.kv_lora_rank}});
    add(prefix + "o_proj.weight", {config_.hidden_size, heads * config_.v_head_dim}, mla.o);
  }

  void add_mlp(const std::string& prefix, std::int64_t intermediate, MlpWeights& mlp) {
    add(prefix + "gate_proj.weight", {intermediate, config_.hidden_size}, mlp.gate);
    add(prefix + "up_proj.weight", {intermediate, config_.hidden_size}, mlp.up);
    add(prefix + "down_proj.weight", {config_.hidden_size, intermediate}, mlp.down);
  }

  void add_moe(const std::string& prefix, MoeWeights& moe) {
    const MoeConfig& shape = config_.moe;
    add(prefix + "gate.weight", {shape.num_experts, config_.hidden_size}, moe.router);
    if (shape.correction_bias) {
      rows_.push_back({prefix + "gate.e_score_correction_bias",
                       {shape.num_experts},
                       &moe.correction_bias,
                       {shape.num_experts},
                       /*fp32=*/true});
    }
    moe.experts.resize(static_cast<std::size_t>(shape.num_experts));
    for (std::size_t expert = 0; expert < moe.experts.size(); ++expert) {
      add_mlp(fmt::format("{}experts.{}.", prefix, expert), shape.intermediate_size,
              moe.experts[expert]);
    }
    if (shape.num_shared_experts > 0) {
      add_mlp(prefix + "shared_experts.",
              std::int64_t{shape.num_shared_experts} * shape.intermediate_size, moe.shared);
    }
  }

  const ModelConfig& config_;
  std::vector<WeightRow> rows_;
};

}  // namespace

std::vector<WeightRow> weight_table(const ModelConfig& config, ModelWeights& weights) {
  return BindingTable(config, weights).rows();
}

}  // namespace latentd
