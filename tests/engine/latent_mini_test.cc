// The bundled model against transformers, both in fp32 from its bf16 weights
// (tools/train/golden.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "engine/model/json.h"
#include "tests/support/engine_rig.h"
#include "tests/support/golden.h"

namespace latentd {
namespace {

constexpr double kLogitsError = 1e-4;
constexpr double kDecisiveGap = 1e-3;  // below it another choice is as good

class LatentMini : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    golden_ = new Json(
        parse_json_file(test::source_directory() / "tests/data/latent-mini/golden.json").value());
  }
  static void TearDownTestSuite() { delete std::exchange(golden_, nullptr); }

  static EngineRig make_rig() {
    return {test::source_directory() / "models/latent-mini",
            {.page_tokens = 64, .max_model_len = 512, .max_num_batched_tokens = 96}};
  }

  static Json* golden_;
};

Json* LatentMini::golden_ = nullptr;

TEST_F(LatentMini, ContinuesGreedilyAsTransformersDoes) {
  EngineRig rig = make_rig();
  const Json& cases = golden_->at("cases");
  for (std::size_t i = 0; i < cases.size(); ++i) {
    rig.submit(EngineRig::request(i, cases[i].at("prompt_ids").get<std::vector<TokenId>>(),
                                  static_cast<int>(cases[i].at("greedy_ids").size())));
  }
  rig.run_until_idle();
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const auto expected = cases[i].at("greedy_ids").get<std::vector<TokenId>>();
    const auto gaps = cases[i].at("top2_gaps").get<std::vector<double>>();
    const std::vector<TokenId>& actual = rig.outcome(i).tokens;
    ASSERT_EQ(actual.size(), expected.size());
    const auto differs = std::mismatch(expected.begin(), expected.end(), actual.begin()).first;
    if (differs == expected.end()) continue;
    EXPECT_LT(gaps[static_cast<std::size_t>(differs - expected.begin())], kDecisiveGap)
        << "case " << i << " differs at token " << differs - expected.begin();
  }
}

TEST_F(LatentMini, HasTransformersLogitsAtEveryPosition) {
  const auto ids = golden_->at("logits").at("ids").get<std::vector<TokenId>>();
  const Json& rows = golden_->at("logits").at("values");
  EngineRig rig = make_rig();
  auto request = EngineRig::request(1, ids, 1);
  request->wants_prompt_logprobs = true;  // asks for the logits of every position
  rig.submit(std::move(request));
  rig.run_until_idle();
  const auto logits = rig.logits(1);
  ASSERT_EQ(logits.size(), rows.size());
  for (std::size_t position = 0; position < rows.size(); ++position) {
    const auto expected = rows[position].get<std::vector<double>>();
    const std::vector<float>& actual = logits.at(static_cast<std::int32_t>(position) + 1);
    ASSERT_EQ(actual.size(), expected.size());
    double largest = 0.0;
    double error = 0.0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      largest = std::max(largest, std::abs(expected[i]));
      error = std::max(error, std::abs(expected[i] - static_cast<double>(actual[i])));
    }
    EXPECT_LT(error, kLogitsError * largest) << "position " << position;
  }
}

}  // namespace
}  // namespace latentd
