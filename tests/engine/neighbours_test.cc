// Same text whatever the batch, on both backends: the logits of a sequence have the same bits alone
// and among neighbours that join, leave and are cancelled (DESIGN rule 4, neighbours).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <tuple>

#include "tests/support/engine_rig.h"
#include "tests/support/golden.h"

namespace latentd {
namespace {

constexpr std::uint64_t kObserved = 1;
constexpr int kNewTokens = 40;
constexpr int kPromptTokens = 75;  // crosses pages of 16 and pieces of 64
constexpr std::uint64_t kSeed = 7;

using Logits = std::map<std::int32_t, std::vector<float>>;

std::vector<TokenId> random_prompt(std::uint64_t seed, int size, int vocab) {
  std::mt19937_64 random(seed);
  std::vector<TokenId> prompt(static_cast<std::size_t>(size));
  for (TokenId& token : prompt) {
    token = static_cast<TokenId>(random() % static_cast<std::uint64_t>(vocab));
  }
  return prompt;
}

struct Setup {
  const char* name;
  DType activation;
  DType cache;
  int depth;
  std::vector<int> buckets;  // to which steps are padded
};

// GoogleTest looks for this name.
void PrintTo(const Setup& setup, std::ostream* out) {  // NOLINT
  *out << setup.name;
}

class Neighbours : public ::testing::TestWithParam<std::tuple<std::string, Setup>> {
 protected:
  static EngineRig make_rig() {
    const auto& [checkpoint, setup] = GetParam();
    return {test::tiny_checkpoint(checkpoint),
            {.num_pages = 400,
             .pipeline_depth = setup.depth,
             .kv_cache_dtype = setup.cache,
             .batch_invariant = true,
             .graph_buckets = setup.buckets,
             .activation = setup.activation}};
  }
  static std::unique_ptr<Request> observed(const EngineRig& rig) {
    return EngineRig::request(kObserved, random_prompt(99, kPromptTokens, rig.config().vocab_size),
                              kNewTokens, /*temperature=*/0.8F);
  }
};

TEST_P(Neighbours, ThatJoinLeaveAndAreCancelledChangeNoBit) {
  const auto& [checkpoint, setup] = GetParam();
  if (setup.cache == DType::kF8E4M3 && !test::caches_latents(checkpoint)) {
    GTEST_SKIP() << "fp8 holds latents only";
  }
  EngineRig alone = make_rig();
  alone.submit(observed(alone));
  alone.run_until_idle();
  const Logits expected = alone.logits(kObserved);
  ASSERT_EQ(expected.size(), static_cast<std::size_t>(kNewTokens));

  EngineRig rig = make_rig();
  std::mt19937_64 random(kSeed);
  std::uint64_t next_id = kObserved + 1;
  const auto join = [&] {
    const auto size = 1 + static_cast<int>(random() % 90);
    rig.submit(EngineRig::request(next_id, random_prompt(next_id, size, rig.config().vocab_size),
                                  1 + static_cast<int>(random() % 60), 1.0F));
    ++next_id;
  };
  for (int i = 0; i < 7; ++i) join();
  for (int i = 0; i < 3; ++i) rig.turn();
  rig.submit(observed(rig));
  for (int i = 0; i < 8; ++i) join();
  while (!rig.outcome(kObserved).finished) {
    rig.turn();
    if (random() % 3 == 0) join();
    if (random() % 4 == 0) rig.cancel(kObserved + 1 + random() % (next_id - kObserved - 1));
  }
  const Logits actual = rig.logits(kObserved);
  ASSERT_EQ(actual.size(), expected.size());
  for (const auto& [position, values] : expected) {
    const auto found = actual.find(position);
    ASSERT_NE(found, actual.end()) << "position " << position;
    ASSERT_EQ(values.size(), found->second.size());
    EXPECT_EQ(std::memcmp(values.data(), found->second.data(), values.size() * sizeof(float)), 0)
        << "position " << position;
  }
}

// "v2-greedy-fp32" -> "v2_greedy_fp32": GoogleTest allows no dashes.
std::string identifier(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

std::vector<Setup> setups() {
  std::vector<Setup> all = {{"fp32", DType::kF32, DType::kF32, 1, {}},
                            {"fp32_overlapped", DType::kF32, DType::kF32, 2, {1, 2, 4, 8, 16}}};
  all.push_back({"fp8", DType::kF32, DType::kF8E4M3, 1, {}});
  all.push_back({"fp8_overlapped", DType::kF32, DType::kF8E4M3, 2, {1, 2, 4, 8, 16}});
  if (rig_device() == Device::kCuda) {
    all.push_back({"bf16", DType::kBF16, DType::kBF16, 1, {}});
    all.push_back({"bf16_overlapped", DType::kBF16, DType::kBF16, 2, {1, 2, 4, 8, 16}});
    all.push_back({"bf16_fp8_overlapped", DType::kBF16, DType::kF8E4M3, 2, {1, 2, 4, 8, 16}});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(TinyCheckpoints, Neighbours,
                         ::testing::Combine(::testing::ValuesIn(test::tiny_checkpoint_names()),
                                            ::testing::ValuesIn(setups())),
                         [](const auto& param) {
                           return identifier(std::get<0>(param.param) + "_" +
                                             std::get<1>(param.param).name);
                         });

}  // namespace
}  // namespace latentd
