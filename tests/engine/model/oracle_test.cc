// The oracle against transformers: two implementations that share no code agree, so both are right.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/model_config.h"
#include "engine/model/weight_binder.h"
#include "tests/support/golden.h"
#include "tests/support/mla_oracle.h"

namespace latentd {
namespace {

class OracleAgainstGolden : public testing::TestWithParam<std::string> {};

TEST_P(OracleAgainstGolden, AgreesAtEveryPositionAndOnGreedyContinuations) {
  const auto directory = test::tiny_checkpoint(GetParam());
  const auto config = load_model_config(directory);
  ASSERT_TRUE(config.ok()) << config.status().to_string();
  const auto checkpoint = Checkpoint::open(directory, *config);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().to_string();
  for (const std::string_view length : {"short", "long"}) {
    const test::GoldenRun golden = test::load_golden(GetParam(), length);
    // Teacher forcing: one pass gives the logits of the prompt and of every greedy choice.
    std::vector<TokenId> tokens = golden.prompt;
    tokens.insert(tokens.end(), golden.greedy.begin(), golden.greedy.end() - 1);
    const auto logits = oracle::forward(*config, checkpoint->weights(), tokens);
    double worst = 0.0;
    for (std::size_t position = 0; position < golden.prompt.size(); ++position) {
      worst = std::max(worst, oracle::relative_error(logits[position], golden.logits_at(position)));
    }
    RecordProperty("error_" + std::string(length), std::to_string(worst));
    std::printf("%s %s: error %.2e\n", GetParam().c_str(), std::string(length).c_str(), worst);
    EXPECT_LT(worst, 1e-5) << length;
    for (std::size_t i = 0; i < golden.greedy.size(); ++i) {
      const auto& row = logits[golden.prompt.size() - 1 + i];
      const auto best = std::max_element(row.begin(), row.end()) - row.begin();
      const bool decided = best == golden.greedy[i] || golden.gaps[i] < 1e-3F;
      EXPECT_TRUE(decided) << length << " token " << i << ": " << best << ", golden "
                           << golden.greedy[i] << " by " << golden.gaps[i];
    }
  }
}

struct Mutation {
  std::string_view name;
  std::string_view checkpoint;
  void (*apply)(ModelConfig&);
};

// Every mistake that a variant invites must show: otherwise the golden data proves nothing.
TEST(Golden, ShowsEveryMistakeInTheConfig) {
  const Mutation mutations[] = {
      {"softmax scale without mscale", "v2-yarn-bf16",
       [](ModelConfig& c) { c.rope.mscale = c.rope.mscale_all_dim = 0.0; }},
      {"magnitude of cos and sin", "v2-grouped-yarn-fp32",
       [](ModelConfig& c) { c.rope.mscale = c.rope.mscale_all_dim; }},
      {"no yarn", "v3-grouped-yarn-fp32", [](ModelConfig& c) { c.rope.kind = RopeKind::kPlain; }},
      {"halved rotation", "v2-greedy-fp32", [](ModelConfig& c) { c.rope.interleaved = false; }},
      {"theta", "v3-one-group-fp32", [](ModelConfig& c) { c.rope.theta = 10000.0; }},
      {"group score of V3 on V2", "v2-grouped-yarn-fp32",
       [](ModelConfig& c) { c.moe.selection = ExpertSelection::kGroupLimitedTop2; }},
      {"group score of V2 on V3", "v3-grouped-bf16",
       [](ModelConfig& c) { c.moe.selection = ExpertSelection::kGroupLimitedMax; }},
      {"no groups", "v3-grouped-yarn-fp32", [](ModelConfig& c) { c.moe.num_groups = 1; }},
      {"weights normalised", "v2-greedy-fp32",
       [](ModelConfig& c) { c.moe.normalize_weights = true; }},
      {"weights not normalised", "v3-one-group-fp32",
       [](ModelConfig& c) { c.moe.normalize_weights = false; }},
      {"weight scale", "v2-grouped-yarn-fp32", [](ModelConfig& c) { c.moe.weight_scale = 1.0F; }},
      {"interleaved rotation of Llama", "llama-mha-fp32",
       [](ModelConfig& c) { c.rope.interleaved = true; }},
      {"epsilon of Llama", "llama-mqa-linear-fp32", [](ModelConfig& c) { c.rms_norm_eps = 1e-6F; }},
      {"no linear scaling", "llama-mqa-linear-fp32",
       [](ModelConfig& c) { c.rope.kind = RopeKind::kPlain; }},
      {"no llama3 scaling", "llama-gqa-llama3-fp32",
       [](ModelConfig& c) { c.rope.kind = RopeKind::kPlain; }},
      {"linear for llama3", "llama-gqa-llama3-fp32",
       [](ModelConfig& c) { c.rope.kind = RopeKind::kLinear; }},
      {"llama3 without a ramp", "llama-gqa-bf16",
       [](ModelConfig& c) { c.rope.high_freq_factor = c.rope.low_freq_factor + 1e-3; }},
      {"theta of llama3", "llama-gqa-llama3-fp32", [](ModelConfig& c) { c.rope.theta = 10000.0; }},
  };
  for (const Mutation& mutation : mutations) {
    const auto directory = test::tiny_checkpoint(mutation.checkpoint);
    auto config = load_model_config(directory);
    ASSERT_TRUE(config.ok()) << config.status().to_string();
    const auto checkpoint = Checkpoint::open(directory, *config);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().to_string();
    const test::GoldenRun golden = test::load_golden(mutation.checkpoint, "short");
    mutation.apply(*config);
    const auto logits = oracle::forward(*config, checkpoint->weights(), golden.prompt);
    double worst = 0.0;
    for (std::size_t position = 0; position < logits.size(); ++position) {
      worst = std::max(worst, oracle::relative_error(logits[position], golden.logits_at(position)));
    }
    EXPECT_GT(worst, 1e-2) << mutation.name;
  }
}

std::string test_name(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(TinyCheckpoints, OracleAgainstGolden,
                         testing::ValuesIn(test::tiny_checkpoint_names()), test_name);

}  // namespace
}  // namespace latentd
