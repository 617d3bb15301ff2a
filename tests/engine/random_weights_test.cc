#include "engine/random_weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "engine/backend/cpu/cpu_backend.h"
#include "engine/backend/random_element.h"
#include "engine/model/model_config.h"
#include "tests/support/golden.h"

namespace latentd {
namespace {

ModelConfig config_of(const char* checkpoint) {
  return load_model_config(test::tiny_checkpoint(checkpoint)).value();
}

bool same_bits(const TensorView& a, const TensorView& b) {
  return a.num_bytes() == b.num_bytes() && std::memcmp(a.data, b.data, a.num_bytes()) == 0;
}

TEST(RandomWeights, HaveBitsThatDependOnNameAndSeedAlone) {
  const ModelConfig config = config_of("v3-grouped-bf16");
  const auto one = make_cpu_backend({.threads = 1}).value();
  const auto many = make_cpu_backend({.threads = 3}).value();
  const ModelWeights a = random_weights(*one, config, 7).value();
  const ModelWeights b = random_weights(*many, config, 7).value();
  const ModelWeights c = random_weights(*many, config, 8).value();
  const std::size_t last = a.layers.size() - 1;
  const auto down = [last](const ModelWeights& weights) {
    return weights.layers[last].moe.experts[1].down;
  };
  EXPECT_TRUE(same_bits(down(a), down(b)));
  EXPECT_FALSE(same_bits(down(a), down(c)));
  EXPECT_FALSE(same_bits(a.layers[last].moe.experts[0].down, down(a)));
}

TEST(RandomWeights, KeepActivationsOfOrderOne) {
  const ModelConfig config = config_of("v3-one-group-fp32");
  const auto backend = make_cpu_backend({.threads = 1}).value();
  const ModelWeights weights = random_weights(*backend, config, 1).value();
  const TensorView& table = weights.embedding;
  const auto* values = static_cast<const float*>(table.data);
  double sum = 0.0;
  double squares = 0.0;
  for (std::int64_t i = 0; i < table.num_elements(); ++i) {
    sum += values[i];
    squares += static_cast<double>(values[i]) * values[i];
  }
  const auto count = static_cast<double>(table.num_elements());
  const double variance = 1.0 / static_cast<double>(table.dim(1));
  EXPECT_NEAR(squares / count, variance, 0.05 * variance);
  EXPECT_NEAR(sum / count, 0.0, 4.0 * std::sqrt(variance / count));
  EXPECT_EQ(static_cast<const float*>(weights.final_norm.data)[0], 1.0F);
  const MoeWeights& moe = weights.layers.back().moe;
  ASSERT_TRUE(moe.correction_bias.is_set());
  EXPECT_EQ(static_cast<const float*>(moe.correction_bias.data)[0], 0.0F);
}

TEST(RandomWeights, NeedAsManyBytesAsTheyAreSaidTo) {
  const ModelConfig config = config_of("v2-yarn-bf16");
  const auto backend = make_cpu_backend({.threads = 1}).value();
  const ModelWeights weights = random_weights(*backend, config, 1).value();
  EXPECT_GT(random_weight_bytes(config), weights.embedding.num_bytes());
  EXPECT_EQ(weights.embedding.dtype, DType::kBF16);
  EXPECT_EQ(weights.layers.front().mla.kv_b.rank, 3);
}

TEST(RandomWeights, FillEveryMatrixOfGroupedAttention) {
  const ModelConfig config = config_of("llama-gqa-llama3-fp32");
  const auto backend = make_cpu_backend({.threads = 1}).value();
  const ModelWeights weights = random_weights(*backend, config, 1).value();
  const GqaWeights& gqa = weights.layers.back().gqa;
  EXPECT_EQ(gqa.k.to_string(), "fp32 [32, 32]");
  EXPECT_NE(static_cast<const float*>(gqa.v.data)[0], 0.0F);
  EXPECT_EQ(static_cast<const float*>(gqa.input_norm.data)[0], 1.0F);
  EXPECT_EQ(weights.lm_head.data, weights.embedding.data);
}

// A value that no implementation may change: files of figures name the seed.
TEST(RandomElement, IsWhatItAlwaysWas) {
  EXPECT_EQ(random_element(0, 0, 1.0F), random_element(0, 0, 2.0F) / 2.0F);
  const float first = random_element(0, 0, 1.0F);
  EXPECT_EQ(first, static_cast<float>(0xe220a8397b1dcdafU >> 40) * 0x1p-23F - 1.0F);
}

}  // namespace
}  // namespace latentd
