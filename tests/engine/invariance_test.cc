// Same text whatever the batch: the logits of a sequence have the same bits in every history, on
// the CPU and, in batch-invariant mode, by the generic kernels of CUDA.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <tuple>

#include "tests/support/engine_rig.h"
#include "tests/support/golden.h"

namespace latentd {
namespace {

constexpr std::uint64_t kObserved = 1;
constexpr int kNewTokens = 40;
constexpr int kPromptTokens = 75;  // crosses pages of 16 and pieces of 64

using Logits = std::map<std::int32_t, std::vector<float>>;

std::vector<TokenId> random_prompt(std::uint64_t seed, int size, int vocab) {
  std::mt19937_64 random(seed);
  std::vector<TokenId> prompt(static_cast<std::size_t>(size));
  for (TokenId& token : prompt) {
    token = static_cast<TokenId>(random() % static_cast<std::uint64_t>(vocab));
  }
  return prompt;
}

// "v2-greedy-fp32" -> "v2_greedy_fp32": GoogleTest allows no dashes.
std::string test_name(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

class Invariance : public ::testing::TestWithParam<std::tuple<std::string, DType>> {
 protected:
  void SetUp() override {
    if (cache() == DType::kF8E4M3 && !test::caches_latents(std::get<0>(GetParam()))) {
      GTEST_SKIP() << "fp8 holds latents only";
    }
  }

  static DType cache() { return std::get<1>(GetParam()); }

  static EngineRig make_rig(RigOptions options = {}) {
    options.kv_cache_dtype = cache();
    options.batch_invariant = true;
    return {test::tiny_checkpoint(std::get<0>(GetParam())), options};
  }

  std::unique_ptr<Request> observed(const EngineRig& rig) const {
    return EngineRig::request(kObserved, random_prompt(99, kPromptTokens, rig.config().vocab_size),
                              kNewTokens,
                              /*temperature=*/0.8F);
  }

  // The observed request alone, with defaults.
  Logits alone() const {
    EngineRig rig = make_rig();
    rig.submit(observed(rig));
    rig.run_until_idle();
    EXPECT_EQ(rig.outcome(kObserved).tokens.size(), static_cast<std::size_t>(kNewTokens));
    return rig.logits(kObserved);
  }

  static void expect_same_bits(const Logits& expected, const Logits& actual) {
    ASSERT_EQ(expected.size(), static_cast<std::size_t>(kNewTokens));
    ASSERT_EQ(expected.size(), actual.size());
    for (const auto& [position, values] : expected) {
      const auto found = actual.find(position);
      ASSERT_NE(found, actual.end()) << "position " << position;
      ASSERT_EQ(values.size(), found->second.size());
      EXPECT_EQ(std::memcmp(values.data(), found->second.data(), values.size() * sizeof(float)), 0)
          << "position " << position;
    }
  }
};

TEST_P(Invariance, APrefixHitChangesNoBit) {
  EngineRig rig = make_rig();
  auto first = observed(rig);
  first->id = RequestId(50);
  first->sampling.seed = 50;
  rig.submit(std::move(first));
  rig.run_until_idle();
  rig.submit(observed(rig));
  rig.run_until_idle();
  EXPECT_EQ(rig.outcome(kObserved).cached_tokens, 64);
  expect_same_bits(alone(), rig.logits(kObserved));
}

TEST_P(Invariance, TheSizeOfPiecesChangesNoBit) {
  for (const int budget : {16, 17, 33, 512}) {
    EngineRig rig = make_rig({.max_num_batched_tokens = budget});
    rig.submit(observed(rig));
    rig.run_until_idle();
    expect_same_bits(alone(), rig.logits(kObserved));
  }
}

TEST_P(Invariance, OverlapChangesNoBit) {
  EngineRig rig = make_rig({.pipeline_depth = 2});
  rig.submit(observed(rig));
  rig.submit(EngineRig::request(2, {1, 2, 3}, 20, 1.0F));
  rig.run_until_idle();
  expect_same_bits(alone(), rig.logits(kObserved));
}

TEST_P(Invariance, PaddingStepsToBucketsChangesNoBit) {
  for (const int depth : {1, 2}) {
    EngineRig rig = make_rig({.pipeline_depth = depth, .graph_buckets = {3, 8, 16}});
    rig.submit(observed(rig));
    rig.submit(EngineRig::request(2, {1, 2, 3}, 20, 1.0F));
    rig.run_until_idle();
    expect_same_bits(alone(), rig.logits(kObserved));
  }
}

TEST_P(Invariance, TheNumberOfThreadsAndThePageSizeChangeNoBit) {
  for (const int threads : {1, 3}) {
    EngineRig rig = make_rig({.page_tokens = 64, .cpu_threads = threads});
    rig.submit(observed(rig));
    rig.run_until_idle();
    expect_same_bits(alone(), rig.logits(kObserved));
  }
}

TEST_P(Invariance, PreemptionUnderOvercommitChangesNoBit) {
  // 12 pages of 16 hold neither both sequences at full length (8 pages each) nor refuse them at the
  // start.
  EngineRig rig = make_rig({.num_pages = 12, .overcommit = true, .prefix_cache = false});
  auto other = EngineRig::request(2, random_prompt(5, kPromptTokens, rig.config().vocab_size),
                                  kNewTokens, 1.0F);
  other->priority = -1;  // so that the observed request is the one that yields
  rig.submit(observed(rig));
  rig.submit(std::move(other));
  rig.run_until_idle();
  EXPECT_GT(rig.outcome(kObserved).preemptions, 0);
  expect_same_bits(alone(), rig.logits(kObserved));
}

// The other form of attention, and both in one step: not the same bits, but the same numbers.
TEST_P(Invariance, ExpandedKeysAndValuesAgreeToRounding) {
  EngineRig rig = make_rig({.expanded_min_tokens = 8});
  if (rig.config().attention != AttentionKind::kLatent) GTEST_SKIP() << "nothing to expand";
  if (rig_device() == Device::kCuda) GTEST_SKIP() << "what is batch-invariant expands nothing";
  rig.submit(EngineRig::request(2, {1, 2, 3}, 30, 1.0F));
  for (int i = 0; i < 3; ++i) rig.turn();
  rig.submit(observed(rig));
  rig.run_until_idle();
  const Logits absorbed = alone();
  const Logits expanded = rig.logits(kObserved);
  // Up to the first token that differs, the two saw the same text.
  const auto& expected = absorbed.at(kPromptTokens);
  const auto& actual = expanded.at(kPromptTokens);
  float largest = 0.0F;
  float error = 0.0F;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    error = std::max(error, std::abs(expected[i] - actual[i]));
  }
  // A last bit may decide how an element of a narrow cache is rounded.
  const float tolerance = cache() == DType::kF32 ? 1e-5F : 5e-2F;
  EXPECT_LT(error, tolerance * largest);
  EXPECT_GT(error, 0.0F) << "the expanded form was not used";
}

INSTANTIATE_TEST_SUITE_P(TinyCheckpoints, Invariance,
                         ::testing::Combine(::testing::ValuesIn(test::tiny_checkpoint_names()),
                                            ::testing::Values(DType::kF32, DType::kF8E4M3)),
                         [](const auto& param) {
                           return test_name(std::get<0>(param.param) + "_" +
                                            std::string(dtype_name(std::get<1>(param.param))));
                         });

}  // namespace
}  // namespace latentd
