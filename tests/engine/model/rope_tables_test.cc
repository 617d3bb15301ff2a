#include "engine/model/rope_tables.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/support/mla_oracle.h"

namespace latentd {
namespace {

RopeConfig v2_lite_yarn() {
  RopeConfig rope;
  rope.kind = RopeKind::kYarn;
  rope.factor = 40.0;
  rope.original_max_position = 4096;
  rope.mscale = 0.707;
  rope.mscale_all_dim = 0.707;
  return rope;
}

TEST(RopeTables, FollowsTheGeometricSeriesWithoutYarn) {
  const auto frequencies = rope_inverse_frequencies(RopeConfig{}, 64);
  ASSERT_EQ(frequencies.size(), 32U);
  for (std::size_t i = 0; i < 32; ++i) {
    EXPECT_NEAR(frequencies[i], std::pow(10000.0, -static_cast<double>(i) / 32.0), 1e-15);
  }
  EXPECT_EQ(rope_magnitude(RopeConfig{}), 1.0);
  EXPECT_EQ(rope_softmax_factor(RopeConfig{}), 1.0);
}

TEST(RopeTables, KeepsFastPairsAndStretchesSlowOnesWithYarn) {
  // V2-Lite: d(32) = 10.47 and d(1) = 22.51, so pairs up to 10 are kept, from 23 on divided by 40.
  const auto plain = rope_inverse_frequencies(RopeConfig{}, 64);
  const auto yarn = rope_inverse_frequencies(v2_lite_yarn(), 64);
  for (std::size_t i = 0; i <= 10; ++i) EXPECT_DOUBLE_EQ(yarn[i], plain[i]) << i;
  for (std::size_t i = 11; i < 23; ++i) {
    const double keep = 1.0 - (static_cast<double>(i) - 10.0) / 13.0;
    EXPECT_NEAR(yarn[i], plain[i] * (keep + (1.0 - keep) / 40.0), 1e-15) << i;
  }
  for (std::size_t i = 23; i < 32; ++i) EXPECT_DOUBLE_EQ(yarn[i], plain[i] / 40.0) << i;
}

TEST(RopeTables, SurvivesARampOfNoWidth) {
  RopeConfig rope = v2_lite_yarn();
  rope.beta_fast = rope.beta_slow = 1e5;  // both bounds clamp to pair 0
  for (const double frequency : rope_inverse_frequencies(rope, 16)) {
    EXPECT_TRUE(std::isfinite(frequency));
  }
}

TEST(RopeTables, DividesEveryFrequencyWithLinear) {
  RopeConfig rope;
  rope.kind = RopeKind::kLinear;
  rope.factor = 4.0;
  const auto plain = rope_inverse_frequencies(RopeConfig{}, 16);
  const auto linear = rope_inverse_frequencies(rope, 16);
  for (std::size_t i = 0; i < 8; ++i) EXPECT_DOUBLE_EQ(linear[i], plain[i] / 4.0) << i;
  EXPECT_EQ(rope_magnitude(rope), 1.0);
  EXPECT_EQ(rope_softmax_factor(rope), 1.0);
}

TEST(RopeTables, KeepsFastPairsAndStretchesSlowOnesWithLlama3) {
  RopeConfig rope;
  rope.kind = RopeKind::kLlama3;
  rope.theta = 500000.0;
  rope.factor = 32.0;
  rope.original_max_position = 8192;
  const auto stretched = rope_inverse_frequencies(rope, 64);
  rope.kind = RopeKind::kPlain;
  const auto plain = rope_inverse_frequencies(rope, 64);
  // Pair i turns 8192 / 2 pi * 500000^(-i / 32) times: 4.2 times at 14, 0.79 times at 18.
  for (std::size_t i = 0; i <= 14; ++i) EXPECT_DOUBLE_EQ(stretched[i], plain[i]) << i;
  for (std::size_t i = 15; i < 18; ++i) {
    EXPECT_LT(stretched[i], plain[i]) << i;
    EXPECT_GT(stretched[i], plain[i] / 32.0) << i;
  }
  for (std::size_t i = 18; i < 32; ++i) EXPECT_DOUBLE_EQ(stretched[i], plain[i] / 32.0) << i;
}

TEST(RopeTables, ComputesTheMagnitudesOfTheReference) {
  RopeConfig rope = v2_lite_yarn();
  EXPECT_DOUBLE_EQ(rope_magnitude(rope), 1.0);
  EXPECT_NEAR(rope_softmax_factor(rope), std::pow(0.0707 * std::log(40.0) + 1.0, 2), 1e-12);
  rope.mscale = 1.0;
  rope.mscale_all_dim = 0.0;
  EXPECT_NEAR(rope_magnitude(rope), 0.1 * std::log(40.0) + 1.0, 1e-12);
  EXPECT_EQ(rope_softmax_factor(rope), 1.0);
  EXPECT_EQ(yarn_mscale(1.0, 5.0), 1.0);
}

TEST(RopeTables, TabulatesWhatTheOracleRotatesBy) {
  RopeConfig yarn = v2_lite_yarn();
  yarn.mscale = 1.0;
  RopeConfig linear = yarn;
  linear.kind = RopeKind::kLinear;
  RopeConfig llama3 = yarn;
  llama3.kind = RopeKind::kLlama3;
  llama3.original_max_position = 64;
  yarn.interleaved = llama3.interleaved = false;
  RopeConfig interleaved_yarn = yarn;
  interleaved_yarn.interleaved = true;
  for (const RopeConfig& rope : {yarn, interleaved_yarn, linear, llama3}) {
    const bool interleaved = rope.interleaved;
    const RopeTables tables = make_rope_tables(rope, 8, 100);
    ASSERT_EQ(tables.cos.size(), 400U);
    for (const int position : {0, 1, 99}) {
      std::vector<double> x(8, 0.0);
      for (std::size_t pair = 0; pair < 4; ++pair) x[interleaved ? 2 * pair : pair] = 1.0;
      oracle::rope(x, position, rope);
      for (std::size_t pair = 0; pair < 4; ++pair) {
        const std::size_t at = static_cast<std::size_t>(position) * 4 + pair;
        EXPECT_NEAR(tables.cos[at], x[interleaved ? 2 * pair : pair], 1e-7);
        EXPECT_NEAR(tables.sin[at], x[interleaved ? 2 * pair + 1 : pair + 4], 1e-7);
      }
    }
  }
}

// Large tables are filled by several threads.
TEST(RopeTables, HoldEveryPosition) {
  const RopeConfig rope = v2_lite_yarn();
  constexpr int kPositions = 3 * 8192 + 1;
  const RopeTables tables = make_rope_tables(rope, 8, kPositions);
  const std::vector<double> frequencies = rope_inverse_frequencies(rope, 8);
  ASSERT_EQ(tables.cos.size(), std::size_t{4} * kPositions);
  ASSERT_EQ(tables.sin.size(), std::size_t{4} * kPositions);
  for (int position = 0; position < kPositions; ++position) {
    for (std::size_t pair = 0; pair < 4; ++pair) {
      const std::size_t at = static_cast<std::size_t>(position) * 4 + pair;
      const double angle = position * frequencies[pair];
      ASSERT_EQ(tables.cos[at], static_cast<float>(std::cos(angle) * rope_magnitude(rope)));
      ASSERT_EQ(tables.sin[at], static_cast<float>(std::sin(angle) * rope_magnitude(rope)));
    }
  }
}

}  // namespace
}  // namespace latentd
