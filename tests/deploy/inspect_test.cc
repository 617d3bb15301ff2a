#include "server/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "engine/model/safetensors.h"
#include "engine/model/weight_binder.h"

namespace latentd {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

const fs::path kSource = LATENTD_SOURCE_DIR;

// DeepSeek-V2-Lite, as published.
constexpr const char* kV2Lite = R"({
  "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", "attention_bias": false,
  "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 10944, "num_hidden_layers": 27,
  "num_attention_heads": 16, "num_key_value_heads": 16, "q_lora_rank": null, "kv_lora_rank": 512,
  "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "first_k_dense_replace": 1,
  "moe_intermediate_size": 1408, "moe_layer_freq": 1, "n_routed_experts": 64,
  "n_shared_experts": 2, "num_experts_per_tok": 6, "n_group": 1, "topk_group": 1,
  "topk_method": "greedy", "scoring_func": "softmax", "norm_topk_prob": false,
  "routed_scaling_factor": 1.0, "max_position_embeddings": 163840, "rms_norm_eps": 1e-06,
  "rope_theta": 10000, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
  "vocab_size": 102400, "bos_token_id": 100000, "eos_token_id": 100001,
  "rope_scaling": {"type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1,
                   "mscale": 0.707, "mscale_all_dim": 0.707,
                   "original_max_position_embeddings": 4096}})";

// A directory with a config.json and nothing else, gone with its owner.
class ConfigOnly final {
 public:
  explicit ConfigOnly(const char* config)
      : path_(fs::path(::testing::TempDir()) /
              ("inspect-" + std::to_string(::getpid()) + "-" +
               ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    fs::create_directories(path_);
    std::ofstream(path_ / "config.json") << config;
  }
  ~ConfigOnly() { fs::remove_all(path_); }
  ConfigOnly(const ConfigOnly&) = delete;
  ConfigOnly& operator=(const ConfigOnly&) = delete;

  const fs::path& path() const { return path_; }

 private:
  const fs::path path_;
};

InspectOptions of(const fs::path& model, std::size_t memory_bytes) {
  InspectOptions options;
  options.model = model;
  options.memory_bytes = memory_bytes;
  return options;
}

TEST(Inspect, CountsTheParametersThatEveryCheckpointHolds) {
  int seen = 0;
  for (const auto& entry : fs::directory_iterator(kSource / "tests/data/tiny")) {
    const auto inspection = inspect_checkpoint(of(entry.path(), std::size_t{1} << 30));
    ASSERT_TRUE(inspection.ok()) << inspection.status().to_string();
    const auto file = Safetensors::open_directory(entry.path());
    ASSERT_TRUE(file.ok());
    std::int64_t elements = 0;
    for (const auto& [name, tensor] : file->table()) {
      std::int64_t size = 1;
      for (const std::int64_t extent : tensor.shape) size *= extent;
      elements += size;
    }
    EXPECT_EQ(inspection->num_parameters, elements) << entry.path();
    EXPECT_LE(inspection->num_active_parameters, inspection->num_parameters);
    EXPECT_TRUE(inspection->weights_present);
    const auto checkpoint = Checkpoint::open(entry.path(), inspection->config);
    EXPECT_EQ(inspection->weight_bytes, checkpoint->weight_bytes());
    ++seen;
  }
  EXPECT_GE(seen, 5);
}

TEST(Inspect, ComparesTheCacheWithFullKeysAndValues) {
  const ConfigOnly model(kV2Lite);
  const auto inspection = inspect_checkpoint(of(model.path(), 80'000'000'000));
  ASSERT_TRUE(inspection.ok()) << inspection.status().to_string();
  EXPECT_FALSE(inspection->weights_present);
  EXPECT_NEAR(static_cast<double>(inspection->num_parameters), 15.706e9, 1e6);
  EXPECT_NEAR(static_cast<double>(inspection->num_active_parameters), 2.45e9, 5e6);

  ASSERT_EQ(inspection->caches.size(), 4U);
  const auto expect = [&](std::size_t at, const char* name, int heads, std::size_t bytes) {
    EXPECT_EQ(inspection->caches[at].name, name);
    EXPECT_EQ(inspection->caches[at].num_kv_heads, heads);
    EXPECT_EQ(inspection->caches[at].bytes_per_token, bytes);
  };
  expect(0, "MLA", 0, 31'104);
  expect(1, "MHA", 16, 276'480);
  expect(2, "GQA", 8, 138'240);
  expect(3, "MQA", 1, 17'280);

  // 72 GB are used; the weights take two bytes a parameter; pages are whole.
  const auto left = 72'000'000'000 - 2 * inspection->num_parameters;
  EXPECT_EQ(static_cast<std::int64_t>(inspection->cache_budget_bytes), left);
  EXPECT_EQ(inspection->caches[0].tokens_that_fit, left / (31'104 * 64) * 64);
}

// Llama 3.1 8B, as published.
constexpr const char* kLlama31 = R"({
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": false,
  "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
  "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131072,
  "mlp_bias": false, "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "tie_word_embeddings": false,
  "torch_dtype": "bfloat16", "vocab_size": 128256, "bos_token_id": 128000, "eos_token_id": 128001,
  "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                   "original_max_position_embeddings": 8192, "rope_type": "llama3"}})";

TEST(Inspect, TellsWhatAModelWithoutLatentsCaches) {
  const ConfigOnly model(kLlama31);
  const auto inspection = inspect_checkpoint(of(model.path(), 80'000'000'000));
  ASSERT_TRUE(inspection.ok()) << inspection.status().to_string();
  EXPECT_EQ(inspection->num_parameters, 8'030'261'248);
  ASSERT_EQ(inspection->caches.size(), 3U) << "GQA of 8 heads is the model's own";
  EXPECT_EQ(inspection->caches[0].name, "GQA");
  EXPECT_EQ(inspection->caches[0].num_kv_heads, 8);
  EXPECT_EQ(inspection->caches[0].bytes_per_token, 131'072U);
  EXPECT_EQ(inspection->caches[1].name, "MHA");
  EXPECT_EQ(inspection->caches[1].bytes_per_token, 524'288U);
  EXPECT_EQ(inspection->caches[2].name, "MQA");
  EXPECT_EQ(inspection->caches[2].bytes_per_token, 16'384U);
  const std::string text = inspection_text(*inspection);
  EXPECT_THAT(text, HasSubstr("GQA, 8 heads of keys and values; heads of 128"));
  EXPECT_THAT(text, HasSubstr("131,072 tokens (llama3 x8 of 8,192)"));
  EXPECT_THAT(text, HasSubstr("of GQA"));
  EXPECT_THAT(inspection_json(*inspection), HasSubstr("\"attention\": \"GQA\""));
}

TEST(Inspect, HonoursTheTypeOfTheCache) {
  const ConfigOnly model(kV2Lite);
  InspectOptions options = of(model.path(), 80'000'000'000);
  options.kv_cache_dtype = DType::kF32;
  EXPECT_EQ(inspect_checkpoint(options)->caches[0].bytes_per_token, 62'208U);
  options.kv_cache_dtype = DType::kF8E4M3;
  const auto fp8 = inspect_checkpoint(options);
  EXPECT_EQ(fp8->caches[0].bytes_per_token, 27U * 656);
  EXPECT_EQ(fp8->caches[1].bytes_per_token, 138'240U) << "keys and values of a byte each";
  EXPECT_THAT(inspection_text(*fp8), HasSubstr("27 layers, fp8;"));
  EXPECT_THAT(inspection_json(*fp8), HasSubstr(R"("kv_cache_dtype": "fp8")"));
}

TEST(Inspect, SaysWhenTheWeightsAloneDoNotFit) {
  const ConfigOnly model(kV2Lite);
  const auto inspection = inspect_checkpoint(of(model.path(), std::size_t{16} << 30));
  EXPECT_EQ(inspection->cache_budget_bytes, 0U);
  EXPECT_EQ(inspection->caches[0].tokens_that_fit, 0);
  EXPECT_THAT(inspection_text(*inspection), HasSubstr("do not fit"));
  EXPECT_THAT(inspection_text(*inspection), HasSubstr("no model.safetensors here"));
}

TEST(Inspect, TellsPeopleAndProgramsTheSame) {
  const auto inspection =
      inspect_checkpoint(of(kSource / "models/latent-mini", std::size_t{1} << 30));
  ASSERT_TRUE(inspection.ok()) << inspection.status().to_string();
  const std::string bytes = std::to_string(inspection->caches[0].bytes_per_token);
  EXPECT_EQ(bytes, "2240");
  EXPECT_THAT(inspection_text(*inspection), HasSubstr("2,240"));
  EXPECT_THAT(inspection_json(*inspection), HasSubstr("\"bytes_per_token\": 2240"));
  EXPECT_THAT(inspection_text(*inspection), HasSubstr("--kv-cache-tokens"));
}

TEST(Inspect, NamesTheFileThatIsMissingOrWrong) {
  EXPECT_THAT(inspect_checkpoint(of("/no/such/model", 1)).status().message(),
              HasSubstr("/no/such/model/config.json"));
  const ConfigOnly model(R"({"architectures": ["GPT2LMHeadModel"]})");
  EXPECT_EQ(inspect_checkpoint(of(model.path(), 1)).status().code(), StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace latentd
