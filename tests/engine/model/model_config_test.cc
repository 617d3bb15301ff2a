#include "engine/model/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "engine/model/json.h"
#include "tests/engine/model/checkpoint_files.h"

namespace latentd {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

// As published with DeepSeek-V2-Lite.
constexpr std::string_view kV2Lite = R"({
  "architectures": ["DeepseekV2ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
  "aux_loss_alpha": 0.001, "bos_token_id": 100000, "eos_token_id": 100001,
  "first_k_dense_replace": 1, "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
  "intermediate_size": 10944, "kv_lora_rank": 512, "max_position_embeddings": 163840,
  "model_type": "deepseek_v2", "moe_intermediate_size": 1408, "moe_layer_freq": 1, "n_group": 1,
  "n_routed_experts": 64, "n_shared_experts": 2, "norm_topk_prob": false,
  "num_attention_heads": 16, "num_experts_per_tok": 6, "num_hidden_layers": 27,
  "num_key_value_heads": 16, "pretraining_tp": 1, "q_lora_rank": null, "qk_nope_head_dim": 128,
  "qk_rope_head_dim": 64, "rms_norm_eps": 1e-06,
  "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 0.707,
                   "mscale_all_dim": 0.707, "original_max_position_embeddings": 4096,
                   "type": "yarn"},
  "rope_theta": 10000, "routed_scaling_factor": 1.0, "scoring_func": "softmax", "seq_aux": true,
  "tie_word_embeddings": false, "topk_group": 1, "topk_method": "greedy",
  "torch_dtype": "bfloat16", "use_cache": true, "v_head_dim": 128, "vocab_size": 102400})";

// As published with DeepSeek-V3, but for its quantization_config.
constexpr std::string_view kV3 = R"({
  "architectures": ["DeepseekV3ForCausalLM"], "bos_token_id": 0, "eos_token_id": 1, "ep_size": 1,
  "first_k_dense_replace": 3, "hidden_act": "silu", "hidden_size": 7168,
  "intermediate_size": 18432, "kv_lora_rank": 512, "max_position_embeddings": 163840,
  "model_type": "deepseek_v3", "moe_intermediate_size": 2048, "moe_layer_freq": 1, "n_group": 8,
  "n_routed_experts": 256, "n_shared_experts": 1, "norm_topk_prob": true,
  "num_attention_heads": 128, "num_experts_per_tok": 8, "num_hidden_layers": 61,
  "num_key_value_heads": 128, "num_nextn_predict_layers": 1, "q_lora_rank": 1536,
  "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "rms_norm_eps": 1e-06,
  "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0,
                   "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096,
                   "type": "yarn"},
  "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid",
  "tie_word_embeddings": false, "topk_group": 4, "topk_method": "noaux_tc",
  "torch_dtype": "bfloat16", "use_cache": true, "v_head_dim": 128, "vocab_size": 129280})";

// `base` with the fields of `changes` replaced, or removed where they are "removed".
std::string changed(std::string_view base, const Json& changes) {
  Json document = Json::parse(base);
  for (const auto& [name, value] : changes.items()) {
    if (value == "removed") {
      document.erase(name);
    } else {
      document[name] = value;
    }
  }
  return document.dump();
}

ModelConfig parsed(std::string_view text) {
  auto config = parse_model_config(text);
  EXPECT_TRUE(config.ok()) << config.status().to_string();
  return config.ok() ? *config : ModelConfig{};
}

TEST(ModelConfig, ReadsDeepseekV2Lite) {
  const ModelConfig c = parsed(kV2Lite);
  EXPECT_EQ(c.architecture, "DeepseekV2ForCausalLM");
  EXPECT_EQ(c.q_lora_rank, 0);
  EXPECT_EQ(c.latent_dim(), 576);
  EXPECT_EQ(c.dtype, DType::kBF16);
  EXPECT_TRUE(c.rope.interleaved);
  EXPECT_EQ(c.rope.kind, RopeKind::kYarn);
  EXPECT_EQ(c.rope.original_max_position, 4096);
  EXPECT_EQ(c.moe.scoring, GateScoring::kSoftmax);
  EXPECT_EQ(c.moe.selection, ExpertSelection::kGreedy);
  EXPECT_FALSE(c.moe.correction_bias);
  EXPECT_FALSE(c.is_moe_layer(0));
  EXPECT_TRUE(c.is_moe_layer(1));
  EXPECT_THAT(c.eos_token_ids, ElementsAre(100001));
  // 192^-1/2 times (0.1 * 0.707 * ln 40 + 1)^2
  EXPECT_NEAR(c.softmax_scale, 0.0721688 * 1.26080 * 1.26080, 1e-6);
}

TEST(ModelConfig, ReadsDeepseekV3) {
  const ModelConfig c = parsed(kV3);
  EXPECT_EQ(c.q_lora_rank, 1536);
  EXPECT_EQ(c.moe.scoring, GateScoring::kSigmoid);
  EXPECT_EQ(c.moe.selection, ExpertSelection::kGroupLimitedTop2);
  EXPECT_EQ(c.moe.num_groups, 8);
  EXPECT_EQ(c.moe.groups_per_token, 4);
  EXPECT_TRUE(c.moe.correction_bias);
  EXPECT_TRUE(c.moe.normalize_weights);
  EXPECT_FLOAT_EQ(c.moe.weight_scale, 2.5F);
}

TEST(ModelConfig, FillsAbsentFieldsFromTheArchitecture) {
  const Json removed = {{"topk_method", "removed"},    {"scoring_func", "removed"},
                        {"norm_topk_prob", "removed"}, {"routed_scaling_factor", "removed"},
                        {"rope_theta", "removed"},     {"rms_norm_eps", "removed"}};
  const ModelConfig v2 = parsed(changed(kV2Lite, removed));
  EXPECT_EQ(v2.moe.selection, ExpertSelection::kGreedy);
  EXPECT_EQ(v2.moe.scoring, GateScoring::kSoftmax);
  EXPECT_FALSE(v2.moe.normalize_weights);
  EXPECT_FLOAT_EQ(v2.moe.weight_scale, 1.0F);
  EXPECT_EQ(v2.rope.theta, 10000.0);
  const ModelConfig v3 = parsed(changed(kV3, removed));
  EXPECT_EQ(v3.moe.selection, ExpertSelection::kGroupLimitedTop2);
  EXPECT_EQ(v3.moe.scoring, GateScoring::kSigmoid);
  EXPECT_TRUE(v3.moe.normalize_weights);
  EXPECT_FLOAT_EQ(v3.moe.weight_scale, 2.5F);
}

TEST(ModelConfig, ReadsTheFormOfTransformers5) {
  const Json v5 = {{"torch_dtype", "removed"},
                   {"dtype", "float32"},
                   {"rope_theta", "removed"},
                   {"rope_scaling", "removed"},
                   {"rope_parameters",
                    {{"rope_type", "yarn"},
                     {"type", "yarn"},
                     {"rope_theta", 50000.0},
                     {"factor", 40.0},
                     {"mscale", 0.707},
                     {"mscale_all_dim", 0.707},
                     {"original_max_position_embeddings", 4096}}}};
  const ModelConfig c = parsed(changed(kV2Lite, v5));
  EXPECT_EQ(c.dtype, DType::kF32);
  EXPECT_EQ(c.rope.theta, 50000.0);
  EXPECT_EQ(c.rope.kind, RopeKind::kYarn);
  EXPECT_EQ(c.rope.beta_fast, 32.0);
  EXPECT_FLOAT_EQ(c.softmax_scale, parsed(kV2Lite).softmax_scale);

  const ModelConfig plain = parsed(
      changed(kV2Lite, {{"rope_scaling", nullptr},
                        {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5e4}}}}));
  EXPECT_EQ(plain.rope.kind, RopeKind::kPlain);
  EXPECT_EQ(plain.rope.theta, 5e4);
  EXPECT_FLOAT_EQ(plain.softmax_scale, static_cast<float>(1.0 / std::sqrt(192.0)));
}

TEST(ModelConfig, LetsTheConfigChooseTheRotation) {
  EXPECT_FALSE(parsed(changed(kV3, {{"rope_interleave", false}})).rope.interleaved);
}

TEST(ModelConfig, GivesYarnTheDefaultsOfTheReference) {
  const ModelConfig c = parsed(changed(
      kV2Lite, {{"rope_scaling",
                 {{"type", "yarn"}, {"factor", 4}, {"original_max_position_embeddings", 64}}}}));
  EXPECT_EQ(c.rope.mscale, 1.0);
  EXPECT_EQ(c.rope.mscale_all_dim, 0.0);
  EXPECT_FLOAT_EQ(c.softmax_scale, static_cast<float>(1.0 / std::sqrt(192.0)));
}

TEST(ModelConfig, DoesNotScaleWeightsThatV2Normalises) {
  const ModelConfig v2 =
      parsed(changed(kV2Lite, {{"norm_topk_prob", true}, {"routed_scaling_factor", 16.0}}));
  EXPECT_TRUE(v2.moe.normalize_weights);
  EXPECT_FLOAT_EQ(v2.moe.weight_scale, 1.0F);
}

TEST(ModelConfig, AcceptsDenseModels) {
  const ModelConfig c = parsed(changed(kV2Lite, {{"n_routed_experts", nullptr},
                                                 {"n_shared_experts", nullptr},
                                                 {"num_experts_per_tok", nullptr},
                                                 {"moe_intermediate_size", "removed"}}));
  EXPECT_FALSE(c.is_moe_layer(5));
}

TEST(ModelConfig, UnitesEndOfTextIds) {
  EXPECT_THAT(parsed(changed(kV3, {{"eos_token_id", {1, 7}}})).eos_token_ids, ElementsAre(1, 7));
  EXPECT_THAT(parsed(changed(kV3, {{"eos_token_id", nullptr}})).eos_token_ids, ElementsAre());
  EXPECT_EQ(parsed(changed(kV3, {{"bos_token_id", nullptr}})).bos_token_id, -1);
}

TEST(ModelConfig, ReportsEveryFieldAtFaultAtOnce) {
  const auto config =
      parse_model_config(changed(kV3, {{"hidden_size", -1},
                                       {"num_hidden_layers", "61"},
                                       {"kv_lora_rank", "removed"},
                                       {"qk_rope_head_dim", 63},
                                       {"n_group", 7},
                                       {"rms_norm_eps", "tiny"},
                                       {"num_key_value_heads", 8},
                                       {"eos_token_id", {1, 129280}},
                                       {"vocab_size", 1e30},
                                       {"tie_word_embeddings", 1},
                                       {"rope_scaling", {{"type", "yarn"}, {"factor", 0.5}}}}));
  EXPECT_EQ(config.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(
      config.status().message(),
      AllOf(HasSubstr("hidden_size: must be from 1 to 262144, got -1"),
            HasSubstr("num_hidden_layers: must be an integer, got string"),
            HasSubstr("kv_lora_rank: is missing"), HasSubstr("qk_rope_head_dim: must be even"),
            HasSubstr("n_group: must divide n_routed_experts (256), got 7"),
            HasSubstr("rms_norm_eps: must be a number"),
            HasSubstr("num_key_value_heads: must equal num_attention_heads (128), got 8"),
            HasSubstr("eos_token_id"), HasSubstr("vocab_size: must be an integer"),
            HasSubstr("tie_word_embeddings: must be true or false"),
            HasSubstr("rope_scaling.factor: must be from 1 to 1024, got 0.5"),
            HasSubstr("rope_scaling.original_max_position_embeddings: is missing")));
}

TEST(ModelConfig, ChecksThatExpertsCanBeChosen) {
  const auto message = [](const Json& changes) {
    return parse_model_config(changed(kV3, changes)).status().message();
  };
  EXPECT_THAT(message({{"num_experts_per_tok", 129}}), HasSubstr("must be at most"));
  EXPECT_THAT(message({{"topk_group", 9}}), HasSubstr("topk_group: must be at most n_group (8)"));
  EXPECT_THAT(message({{"n_group", 256}, {"topk_group", 8}}), HasSubstr("two experts a group"));
}

TEST(ModelConfig, RefusesWhatIsNotImplemented) {
  const auto refused = [](std::string_view base, const Json& changes, std::string_view what) {
    const auto config = parse_model_config(changed(base, changes));
    EXPECT_EQ(config.status().code(), StatusCode::kUnimplemented) << changes;
    EXPECT_THAT(config.status().to_string(), HasSubstr(std::string(what)));
  };
  refused(kV3, {{"quantization_config", {{"quant_method", "fp8"}}}}, "quantization_config: ");
  refused(kV3, {{"architectures", {"GPT2LMHeadModel"}}},
          "\"GPT2LMHeadModel\" is not supported; supported are DeepseekV2ForCausalLM, "
          "DeepseekV3ForCausalLM, LlamaForCausalLM");
  refused(kV3, {{"topk_method", "greedy"}}, "topk_method: must be one of noaux_tc");
  refused(kV3, {{"hidden_act", "gelu"}}, "hidden_act: only silu");
  refused(kV3, {{"torch_dtype", "float16"}}, "torch_dtype: must be float32 or bfloat16");
  refused(kV3, {{"attention_bias", true}}, "attention_bias: ");
  refused(kV3, {{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}}, "rope_scaling.type: ");
}

TEST(ModelConfig, RefusesDocumentsOfAnotherShape) {
  for (const char* text : {"[]", "3", "{}", R"({"architectures": []})",
                           R"({"architectures": "DeepseekV3ForCausalLM"})", "{"}) {
    EXPECT_EQ(parse_model_config(text).status().code(), StatusCode::kInvalidArgument) << text;
  }
}

TEST(ModelConfig, NamesTheFileAtFault) {
  const test::TempDirectory directory;
  EXPECT_EQ(load_model_config(directory.path()).status().code(), StatusCode::kNotFound);
  directory.write("config.json", changed(kV3, {{"hidden_size", 0}}));
  EXPECT_THAT(load_model_config(directory.path()).status().message(),
              AllOf(HasSubstr("config.json"), HasSubstr("hidden_size"), Not(HasSubstr("\n"))));
  directory.write("config.json", kV3);
  EXPECT_TRUE(load_model_config(directory.path()).ok());
}

}  // namespace
}  // namespace latentd
