#include "engine/model/weight_binder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>

#include "tests/engine/model/checkpoint_files.h"
#include "tests/support/golden.h"

namespace latentd {
namespace {

using test::file_tensor;
using test::FileTensor;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// One dense and one MoE layer; every size differs, so that a mix-up shows.
ModelConfig small_config() {
  ModelConfig c;
  c.num_layers = 2;
  c.hidden_size = 6;
  c.num_heads = 2;
  c.q_lora_rank = 5;
  c.kv_lora_rank = 7;
  c.qk_nope_head_dim = 3;
  c.qk_rope_head_dim = 4;
  c.v_head_dim = 8;
  c.intermediate_size = 9;
  c.vocab_size = 11;
  c.moe.num_experts = 2;
  c.moe.num_shared_experts = 2;
  c.moe.experts_per_token = 1;
  c.moe.intermediate_size = 10;
  c.moe.first_dense_layers = 1;
  c.moe.correction_bias = true;
  return c;
}

void add_mlp(std::map<std::string, FileTensor>& tensors, const std::string& prefix,
             std::int64_t intermediate) {
  tensors[prefix + "gate_proj.weight"] = file_tensor("BF16", {intermediate, 6}, 1.0F);
  tensors[prefix + "up_proj.weight"] = file_tensor("BF16", {intermediate, 6}, 2.0F);
  tensors[prefix + "down_proj.weight"] = file_tensor("BF16", {6, intermediate}, 3.0F);
}

std::map<std::string, FileTensor> small_tensors() {
  std::map<std::string, FileTensor> t;
  t["model.embed_tokens.weight"] = file_tensor("BF16", {11, 6}, 0.0F);
  t["model.norm.weight"] = file_tensor("BF16", {6}, 0.0F);
  t["lm_head.weight"] = file_tensor("BF16", {11, 6}, 0.0F);
  for (int layer = 0; layer < 2; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    t[prefix + "input_layernorm.weight"] = file_tensor("BF16", {6}, 0.0F);
    t[prefix + "post_attention_layernorm.weight"] = file_tensor("F32", {6}, 0.0F);
    t[prefix + "self_attn.q_a_proj.weight"] = file_tensor("BF16", {5, 6}, 0.0F);
    t[prefix + "self_attn.q_a_layernorm.weight"] = file_tensor("BF16", {5}, 0.0F);
    t[prefix + "self_attn.q_b_proj.weight"] = file_tensor("BF16", {14, 5}, 0.0F);
    t[prefix + "self_attn.kv_a_proj_with_mqa.weight"] = file_tensor("BF16", {11, 6}, 0.0F);
    t[prefix + "self_attn.kv_a_layernorm.weight"] = file_tensor("BF16", {7}, 0.0F);
    t[prefix + "self_attn.kv_b_proj.weight"] = file_tensor("BF16", {22, 7}, 0.0F);
    t[prefix + "self_attn.o_proj.weight"] = file_tensor("BF16", {6, 16}, 0.0F);
  }
  add_mlp(t, "model.layers.0.mlp.", 9);
  t["model.layers.1.mlp.gate.weight"] = file_tensor("F32", {2, 6}, 0.0F);
  t["model.layers.1.mlp.gate.e_score_correction_bias"] = file_tensor("BF16", {2}, 5.0F);
  add_mlp(t, "model.layers.1.mlp.experts.0.", 10);
  add_mlp(t, "model.layers.1.mlp.experts.1.", 10);
  add_mlp(t, "model.layers.1.mlp.shared_experts.", 20);
  return t;
}

class CheckpointTest : public testing::Test {
 protected:
  Result<Checkpoint> open() {
    directory_.write("model.safetensors", test::safetensors_file(tensors_));
    return Checkpoint::open(directory_.path(), config_);
  }
  test::TempDirectory directory_;
  ModelConfig config_ = small_config();
  std::map<std::string, FileTensor> tensors_ = small_tensors();
};

TEST_F(CheckpointTest, BindsEveryTensorToItsView) {
  auto opened = open();
  ASSERT_TRUE(opened.ok()) << opened.status().to_string();
  const Checkpoint checkpoint = *std::move(opened);
  const ModelWeights& w = checkpoint.weights();
  ASSERT_EQ(w.layers.size(), 2U);
  EXPECT_EQ(w.embedding.to_string(), "bf16 [11, 6]");
  const MlaWeights& mla = w.layers[0].mla;
  EXPECT_FALSE(mla.q.is_set());
  EXPECT_EQ(mla.q_b.to_string(), "bf16 [14, 5]");
  EXPECT_EQ(mla.kv_a.to_string(), "bf16 [11, 6]");
  EXPECT_EQ(mla.kv_b.to_string(), "bf16 [2, 11, 7]");
  EXPECT_EQ(mla.o.to_string(), "bf16 [6, 16]");
  EXPECT_EQ(w.layers[0].post_attention_norm.dtype, DType::kF32);
  EXPECT_TRUE(w.layers[0].moe.experts.empty());
  EXPECT_EQ(w.layers[0].mlp.down.to_string(), "bf16 [6, 9]");
  EXPECT_FALSE(w.layers[1].mlp.gate.is_set());
  ASSERT_EQ(w.layers[1].moe.experts.size(), 2U);
  EXPECT_EQ(w.layers[1].moe.experts[1].up.to_string(), "bf16 [10, 6]");
  EXPECT_EQ(w.layers[1].moe.shared.gate.to_string(), "bf16 [20, 6]");
  EXPECT_EQ(*static_cast<const std::uint16_t*>(w.layers[1].moe.experts[1].up.data),
            to_bfloat16(2.0F).bits);
  EXPECT_EQ(checkpoint.num_unbound_tensors(), 0);
}

TEST_F(CheckpointTest, WidensTheCorrectionBias) {
  for (const char* dtype : {"BF16", "F32"}) {
    tensors_["model.layers.1.mlp.gate.e_score_correction_bias"] = file_tensor(dtype, {2}, 5.0F);
    const auto opened = open();
    ASSERT_TRUE(opened.ok()) << opened.status().to_string();
    const TensorView& bias = opened->weights().layers[1].moe.correction_bias;
    ASSERT_EQ(bias.to_string(), "fp32 [2]");
    EXPECT_EQ(static_cast<const float*>(bias.data)[0], 5.0F);
    EXPECT_EQ(static_cast<const float*>(bias.data)[1], 6.0F);
  }
}

TEST_F(CheckpointTest, BindsUncompressedQueries) {
  config_.q_lora_rank = 0;
  for (int layer = 0; layer < 2; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".self_attn.";
    tensors_[prefix + "q_proj.weight"] = file_tensor("BF16", {14, 6}, 0.0F);
  }
  const auto opened = open();
  ASSERT_TRUE(opened.ok()) << opened.status().to_string();
  EXPECT_EQ(opened->weights().layers[1].mla.q.to_string(), "bf16 [14, 6]");
  EXPECT_FALSE(opened->weights().layers[1].mla.q_a.is_set());
  EXPECT_EQ(opened->num_unbound_tensors(), 6);
}

TEST_F(CheckpointTest, BindsKeysAndValuesOfGroupedAttention) {
  config_ = {};
  config_.attention = AttentionKind::kGrouped;
  config_.num_layers = 1;
  config_.hidden_size = 6;
  config_.num_heads = 4;
  config_.num_kv_heads = 2;
  config_.qk_rope_head_dim = config_.v_head_dim = 10;
  config_.intermediate_size = 9;
  config_.vocab_size = 11;
  tensors_ = {};
  const std::string prefix = "model.layers.0.";
  tensors_["model.embed_tokens.weight"] = file_tensor("BF16", {11, 6}, 0.0F);
  tensors_["model.norm.weight"] = file_tensor("BF16", {6}, 0.0F);
  tensors_["lm_head.weight"] = file_tensor("BF16", {11, 6}, 0.0F);
  tensors_[prefix + "input_layernorm.weight"] = file_tensor("BF16", {6}, 0.0F);
  tensors_[prefix + "post_attention_layernorm.weight"] = file_tensor("BF16", {6}, 0.0F);
  tensors_[prefix + "self_attn.q_proj.weight"] = file_tensor("BF16", {40, 6}, 0.0F);
  tensors_[prefix + "self_attn.k_proj.weight"] = file_tensor("BF16", {20, 6}, 0.0F);
  tensors_[prefix + "self_attn.v_proj.weight"] = file_tensor("F32", {20, 6}, 0.0F);
  tensors_[prefix + "self_attn.o_proj.weight"] = file_tensor("BF16", {6, 40}, 0.0F);
  // What Llama's checkpoints used to carry.
  tensors_[prefix + "self_attn.rotary_emb.inv_freq"] = file_tensor("F32", {5}, 0.0F);
  add_mlp(tensors_, prefix + "mlp.", 9);
  const auto opened = open();
  ASSERT_TRUE(opened.ok()) << opened.status().to_string();
  const LayerWeights& layer = opened->weights().layers[0];
  EXPECT_EQ(layer.gqa.input_norm.to_string(), "bf16 [6]");
  EXPECT_EQ(layer.gqa.q.to_string(), "bf16 [40, 6]");
  EXPECT_EQ(layer.gqa.k.to_string(), "bf16 [20, 6]");
  EXPECT_EQ(layer.gqa.v.to_string(), "fp32 [20, 6]");
  EXPECT_EQ(layer.gqa.o.to_string(), "bf16 [6, 40]");
  EXPECT_FALSE(layer.mla.input_norm.is_set());
  EXPECT_EQ(opened->num_unbound_tensors(), 1);

  tensors_[prefix + "self_attn.k_proj.weight"] = file_tensor("BF16", {40, 6}, 0.0F);
  tensors_.erase(prefix + "self_attn.v_proj.weight");
  EXPECT_THAT(open().status().message(),
              AllOf(HasSubstr("self_attn.k_proj.weight: expected BF16 or F32 [20, 6], got BF16"),
                    HasSubstr("self_attn.v_proj.weight: expected BF16 or F32 [20, 6], but it is")));
}

TEST_F(CheckpointTest, TiesTheHeadToTheEmbedding) {
  const auto untied = open();
  ASSERT_TRUE(untied.ok());
  config_.tie_word_embeddings = true;
  tensors_.erase("lm_head.weight");
  const auto tied = open();
  ASSERT_TRUE(tied.ok()) << tied.status().to_string();
  EXPECT_EQ(tied->weights().lm_head.data, tied->weights().embedding.data);
  EXPECT_EQ(untied->weight_bytes() - tied->weight_bytes(), 11U * 6U * 2U);
}

TEST_F(CheckpointTest, ToleratesTensorsThatNothingBinds) {
  tensors_["model.layers.2.self_attn.q_a_proj.weight"] = file_tensor("BF16", {5, 6}, 0.0F);
  tensors_["model.layers.2.eh_proj.weight"] = {"F16", {2}, "abcd"};
  const auto opened = open();
  ASSERT_TRUE(opened.ok()) << opened.status().to_string();
  EXPECT_EQ(opened->num_unbound_tensors(), 2);
}

TEST_F(CheckpointTest, ReportsEveryFaultyTensorAtOnce) {
  tensors_.erase("model.norm.weight");
  tensors_["model.layers.0.self_attn.kv_b_proj.weight"] = file_tensor("BF16", {7, 22}, 0.0F);
  tensors_["model.layers.1.mlp.gate.weight"] = {"F16", {2, 6}, std::string(24, '\0')};
  tensors_["model.layers.1.mlp.experts.1.up_proj.weight"] = file_tensor("BF16", {60}, 0.0F);
  const auto opened = open();
  EXPECT_EQ(opened.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(
      opened.status().message(),
      AllOf(HasSubstr("4 of 35 tensors"),
            HasSubstr("model.norm.weight: expected BF16 or F32 [6], but it is missing"),
            HasSubstr("model.layers.0.self_attn.kv_b_proj.weight: expected BF16 or F32 [22, 7], "
                      "got BF16 [7, 22]"),
            HasSubstr("model.layers.1.mlp.gate.weight: expected BF16 or F32 [2, 6], got F16"),
            HasSubstr("experts.1.up_proj.weight: expected BF16 or F32 [10, 6], got BF16 [60]"),
            Not(HasSubstr("experts.0"))));
}

TEST_F(CheckpointTest, PassesOnWhatIsWrongWithTheFile) {
  directory_.write("model.safetensors", "no safetensors");
  EXPECT_EQ(Checkpoint::open(directory_.path(), config_).status().code(), StatusCode::kDataLoss);
}

TEST(Checkpoint, BindsAllOfEveryTinyCheckpoint) {
  for (const std::string& name : test::tiny_checkpoint_names()) {
    const auto config = load_model_config(test::tiny_checkpoint(name));
    ASSERT_TRUE(config.ok()) << config.status().to_string();
    const auto opened = Checkpoint::open(test::tiny_checkpoint(name), *config);
    ASSERT_TRUE(opened.ok()) << opened.status().to_string();
    EXPECT_EQ(opened->num_unbound_tensors(), 0) << name;
    EXPECT_EQ(opened->weights().embedding.dtype, config->dtype) << name;
  }
}

}  // namespace
}  // namespace latentd
