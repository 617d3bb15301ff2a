// How a LlamaForCausalLM config.json is read.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "engine/model/json.h"
#include "engine/model/model_config.h"

namespace latentd {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// As published with Llama 3.2 1B Instruct.
constexpr std::string_view kLlama32 = R"({
  "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
  "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "head_dim": 64,
  "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192,
  "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama",
  "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
  "pretraining_tp": 1, "rms_norm_eps": 1e-05,
  "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                   "original_max_position_embeddings": 8192, "rope_type": "llama3"},
  "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
  "use_cache": true, "vocab_size": 128256})";

Json changed(const Json& changes) {
  Json document = Json::parse(kLlama32);
  for (const auto& [name, value] : changes.items()) {
    if (value == "removed") {
      document.erase(name);
    } else {
      document[name] = value;
    }
  }
  return document;
}

ModelConfig parsed(const Json& changes = Json::object()) {
  auto config = parse_model_config(changed(changes).dump());
  EXPECT_TRUE(config.ok()) << config.status().to_string();
  return config.ok() ? *config : ModelConfig{};
}

Status refused(const Json& changes) { return parse_model_config(changed(changes).dump()).status(); }

TEST(LlamaConfig, ReadsLlama32) {
  const ModelConfig c = parsed();
  EXPECT_EQ(c.architecture, "LlamaForCausalLM");
  EXPECT_EQ(c.attention, AttentionKind::kGrouped);
  EXPECT_EQ(attention_name(c), "GQA");
  EXPECT_EQ(c.num_heads, 32);
  EXPECT_EQ(c.num_kv_heads, 8);
  EXPECT_EQ(c.qk_head_dim(), 64);
  EXPECT_EQ(c.qk_rope_head_dim, 64);
  EXPECT_EQ(c.v_head_dim, 64);
  EXPECT_EQ(c.kv_lora_rank, 0);
  EXPECT_EQ(c.intermediate_size, 8192);
  EXPECT_FALSE(c.is_moe_layer(0));
  EXPECT_TRUE(c.tie_word_embeddings);
  EXPECT_FALSE(c.rope.interleaved);
  EXPECT_EQ(c.rope.kind, RopeKind::kLlama3);
  EXPECT_EQ(c.rope.theta, 500000.0);
  EXPECT_EQ(c.rope.factor, 32.0);
  EXPECT_EQ(c.rope.original_max_position, 8192);
  EXPECT_EQ(c.rope.low_freq_factor, 1.0);
  EXPECT_EQ(c.rope.high_freq_factor, 4.0);
  EXPECT_FLOAT_EQ(c.softmax_scale, 0.125F);
  EXPECT_FLOAT_EQ(c.rms_norm_eps, 1e-5F);
  EXPECT_THAT(c.eos_token_ids, ElementsAre(128001, 128008, 128009));
}

TEST(LlamaConfig, NamesItsAttentionByItsHeads) {
  EXPECT_EQ(attention_name(parsed({{"num_key_value_heads", 32}})), "MHA");
  EXPECT_EQ(attention_name(parsed({{"num_key_value_heads", "removed"}})), "MHA");
  EXPECT_EQ(attention_name(parsed({{"num_key_value_heads", 1}})), "MQA");
}

TEST(LlamaConfig, DividesTheHiddenStateAmongTheHeadsWithoutAHeadDim) {
  EXPECT_EQ(parsed({{"head_dim", "removed"}}).qk_head_dim(), 64);
  EXPECT_EQ(parsed({{"head_dim", nullptr}}).qk_head_dim(), 64);
  const ModelConfig wide = parsed({{"head_dim", 80}});
  EXPECT_EQ(wide.qk_head_dim(), 80);
  EXPECT_FLOAT_EQ(wide.softmax_scale, static_cast<float>(1.0 / std::sqrt(80.0)));
}

TEST(LlamaConfig, ReadsTheFormOfTransformers5) {
  const ModelConfig c = parsed({{"torch_dtype", "removed"},
                                {"dtype", "float32"},
                                {"rope_theta", "removed"},
                                {"rope_scaling", "removed"},
                                {"rope_parameters",
                                 {{"rope_type", "llama3"},
                                  {"rope_theta", 1e6},
                                  {"factor", 8.0},
                                  {"low_freq_factor", 2.0},
                                  {"high_freq_factor", 3.0},
                                  {"original_max_position_embeddings", 4096}}}});
  EXPECT_EQ(c.dtype, DType::kF32);
  EXPECT_EQ(c.rope.kind, RopeKind::kLlama3);
  EXPECT_EQ(c.rope.theta, 1e6);
  EXPECT_EQ(c.rope.low_freq_factor, 2.0);
  EXPECT_EQ(c.rope.high_freq_factor, 3.0);
}

TEST(LlamaConfig, ReadsPlainAndLinearRope) {
  EXPECT_EQ(parsed({{"rope_scaling", nullptr}}).rope.kind, RopeKind::kPlain);
  EXPECT_EQ(parsed({{"rope_scaling", {{"rope_type", "default"}}}}).rope.kind, RopeKind::kPlain);
  const ModelConfig linear = parsed({{"rope_scaling", {{"type", "linear"}, {"factor", 2.5}}}});
  EXPECT_EQ(linear.rope.kind, RopeKind::kLinear);
  EXPECT_EQ(linear.rope.factor, 2.5);
  EXPECT_FLOAT_EQ(linear.softmax_scale, 0.125F);
}

TEST(LlamaConfig, ReportsEveryFieldAtFaultAtOnce) {
  const Status status =
      refused({{"num_key_value_heads", 5},
               {"head_dim", 63},
               {"intermediate_size", "removed"},
               {"rope_scaling",
                {{"rope_type", "llama3"}, {"low_freq_factor", 4.0}, {"high_freq_factor", 4.0}}}});
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(),
              AllOf(HasSubstr("num_key_value_heads: must divide num_attention_heads (32), got 5"),
                    HasSubstr("head_dim: must be even, since pairs are rotated, got 63"),
                    HasSubstr("intermediate_size: is missing"),
                    HasSubstr("rope_scaling.factor: is missing"),
                    HasSubstr("rope_scaling.original_max_position_embeddings: is missing"),
                    HasSubstr("rope_scaling.high_freq_factor: must be above low_freq_factor (4)")));
  EXPECT_THAT(refused({{"head_dim", "removed"}, {"num_attention_heads", 24}}).message(),
              AllOf(HasSubstr("head_dim: is missing, and hidden_size (2048) divided among "
                              "num_attention_heads (24)")));
  EXPECT_THAT(refused({{"rope_scaling", {{"type", "linear"}}}}).message(),
              HasSubstr("rope_scaling.factor: is missing"));
}

TEST(LlamaConfig, RefusesWhatIsNotImplemented) {
  const auto expect = [](const Json& changes, const char* what) {
    const Status status = refused(changes);
    EXPECT_EQ(status.code(), StatusCode::kUnimplemented) << changes;
    EXPECT_THAT(status.message(), HasSubstr(what));
  };
  expect({{"attention_bias", true}}, "attention_bias: biases are not implemented");
  expect({{"mlp_bias", true}}, "mlp_bias: biases are not implemented");
  expect({{"hidden_act", "gelu"}}, "hidden_act: only silu");
  expect({{"quantization_config", {{"quant_method", "gptq"}}}}, "quantization_config: ");
  expect({{"partial_rotary_factor", 0.5}}, "partial_rotary_factor: is not implemented");
  for (const char* type : {"yarn", "dynamic", "longrope"}) {
    expect({{"rope_scaling", {{"rope_type", type}, {"factor", 2.0}}}},
           "rope_scaling.rope_type: must be one of default, linear, llama3 for LlamaForCausalLM");
  }
}

}  // namespace
}  // namespace latentd
