// sample: every rule of SamplingParams, the distribution of draws, and their determinism.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "engine/backend/sampling_random.h"
#include "tests/conformance/device.h"

namespace latentd::conformance {
namespace {

constexpr std::uint64_t kSeed = 20261127;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::size_t size(int value) { return static_cast<std::size_t>(value); }

// One call of sample(); row i has slot i unless it says otherwise.
struct SampleCall {
  int vocab = 0;
  std::vector<float> logits;
  std::vector<SampleRow> rows;
  std::vector<LogitEdit> edits;
  std::vector<std::uint32_t> masks;
  std::vector<std::uint16_t> counts;  // filled with zeros when empty
  std::vector<TokenId> last_tokens;   // out

  SampleRow& add(std::span<const float> row_logits) {
    vocab = static_cast<int>(row_logits.size());
    logits.insert(logits.end(), row_logits.begin(), row_logits.end());
    SampleRow row;
    row.slot = static_cast<std::int32_t>(rows.size());
    return rows.emplace_back(row);
  }

  std::vector<SampleOutcome> run(Device& device) {
    const std::size_t n = rows.size();
    if (counts.empty()) counts.assign(n * size(vocab), 0);
    auto* device_counts = device.array(counts);
    auto* device_last = device.array(std::vector<TokenId>(n, -5));
    auto* outcomes = device.array(std::vector<SampleOutcome>(n));
    SampleParams p;
    p.logits = device.array(logits);
    p.num_rows = static_cast<std::int32_t>(n);
    p.vocab_size = vocab;
    p.rows = device.array(rows);
    p.masks = device.array(masks);
    p.mask_words = (vocab + 31) / 32;
    p.edits = device.array(edits);
    p.token_counts = device_counts;
    p.last_tokens = device_last;
    p.outcomes = outcomes;
    device->sample(p);
    counts = device.read(device_counts, counts.size());
    last_tokens = device.read(device_last, n);
    return device.read(outcomes, n);
  }
};

// Probabilities by the definition of the filters, in double: 0 for what may not be drawn.
std::vector<double> distribution(std::span<const float> logits, const SampleRow& row) {
  const std::size_t n = logits.size();
  const double highest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  std::vector<double> weights(n);
  for (std::size_t t = 0; t < n; ++t) {
    weights[t] =
        std::exp((static_cast<double>(logits[t]) - highest) / static_cast<double>(row.temperature));
  }
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return weights[a] > weights[b]; });
  if (row.top_k > 0) order.resize(std::min(n, size(row.top_k)));
  double total = 0.0;
  for (const std::size_t t : order) total += weights[t];
  double sum = 0.0;
  std::size_t kept = 0;
  while (kept < order.size() && (kept == 0 || sum < static_cast<double>(row.top_p) * total)) {
    sum += weights[order[kept++]];
  }
  if (row.top_p < 1.0F) order.resize(kept);
  std::vector<double> result(n);
  total = 0.0;
  for (const std::size_t t : order) {
    if (weights[t] < static_cast<double>(row.min_p)) continue;
    result[t] = weights[t];
    total += weights[t];
  }
  for (double& p : result) p /= total;
  return result;
}

class Sampler : public ::testing::TestWithParam<BackendUnderTest> {
 protected:
  std::mt19937_64 random_{kSeed};
  Device device_{GetParam()};
};

TEST_P(Sampler, GreedyTakesTheHighestLogitAndTheLowestIdAmongEquals) {
  SampleCall call;
  std::vector<float> logits(100, -1.0F);
  logits[97] = logits[31] = logits[64] = 2.5F;
  call.add(logits).temperature = 0.0F;
  logits[99] = 2.75F;
  call.add(logits).temperature = 0.0F;
  const auto outcomes = call.run(device_);
  EXPECT_EQ(outcomes[0].token, 31);
  EXPECT_EQ(outcomes[1].token, 99);
  EXPECT_EQ(call.last_tokens, (std::vector<TokenId>{31, 99}));
  EXPECT_EQ(call.counts[31], 1);
  EXPECT_EQ(call.counts[100 + 99], 1);
  EXPECT_EQ(std::accumulate(call.counts.begin(), call.counts.end(), 0), 2);
}

TEST_P(Sampler, NonFiniteLogitsFailTheirRowAlone) {
  const auto good = random_values(random_, 75);
  for (const float bad : {std::nanf(""), kInfinity, -kInfinity}) {
    for (const std::size_t where : {std::size_t{0}, std::size_t{40}, std::size_t{74}}) {
      SampleCall call;
      auto logits = good;
      logits[where] = bad;
      call.add(good);
      call.add(logits);
      call.add(logits).temperature = 0.0F;
      call.add(good).temperature = 0.0F;
      const auto outcomes = call.run(device_);
      EXPECT_EQ(outcomes[0].finite, 1);
      EXPECT_EQ(outcomes[1].finite, 0);
      EXPECT_EQ(outcomes[1].token, -1);
      EXPECT_EQ(outcomes[2].finite, 0);
      EXPECT_EQ(outcomes[3].finite, 1);
      EXPECT_EQ(call.last_tokens[1], -5) << "nothing is drawn";
      EXPECT_EQ(std::accumulate(call.counts.begin(), call.counts.end(), 0), 2);
    }
  }
}

TEST_P(Sampler, LogprobsAreThoseOfTheModelsOwnLogits) {
  constexpr int kVocab = 1000;
  const auto logits = random_values(random_, kVocab, 8.0F);
  SampleCall call;
  SampleRow& row = call.add(logits);
  row.temperature = 0.0F;
  row.num_top = 5;
  row.first_edit = 0;
  row.num_edits = 1;
  call.edits = {{123, 50.0F}};
  SampleRow& target = call.add(logits);
  target.target = 7;
  target.num_top = 0;
  const auto outcomes = call.run(device_);

  const auto wide = to_double(logits);
  double total = 0.0;
  for (const double x : wide) total += std::exp(x);
  const auto logprob = [&](TokenId t) { return wide[size(t)] - std::log(total); };
  EXPECT_EQ(outcomes[0].token, 123);
  EXPECT_NEAR(static_cast<double>(outcomes[0].logprob), logprob(123), 1e-5);
  std::vector<TokenId> order(kVocab);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](TokenId a, TokenId b) { return wide[size(a)] > wide[size(b)]; });
  ASSERT_EQ(outcomes[0].num_top, 5);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(outcomes[0].top_tokens[i], order[size(i)]);
    EXPECT_NEAR(static_cast<double>(outcomes[0].top_logprobs[i]), logprob(order[size(i)]), 1e-5);
  }
  EXPECT_EQ(outcomes[1].token, 7);
  EXPECT_EQ(outcomes[1].num_top, 0);
  EXPECT_NEAR(static_cast<double>(outcomes[1].logprob), logprob(7), 1e-5);
  EXPECT_EQ(call.last_tokens[1], -5) << "a target is not a draw";
  EXPECT_EQ(call.counts[kVocab + 7], 0) << "and is not counted";
}

TEST_P(Sampler, PenaltiesFollowTheCounts) {
  SampleCall call;
  const std::vector<float> logits = {1.0F, 0.9F, -0.5F, 0.2F};
  call.add(logits);
  call.add(logits);
  call.add(logits);
  for (SampleRow& row : call.rows) row.temperature = 0.0F;
  call.rows[0].presence_penalty = 0.2F;    // 0 was generated: 1.0 - 0.2 < 0.9
  call.rows[1].frequency_penalty = 0.06F;  // twice: 1.0 - 0.12 < 0.9
  call.rows[2].repetition_penalty = 2.0F;  // 0 and 1 are in the prompt: 0.5, 0.45 > 0.2
  call.counts = {
      1, 0, 0, 0, 2, 0, 0, 0, kInPrompt, static_cast<std::uint16_t>(kInPrompt + 3), kInPrompt, 0};
  auto outcomes = call.run(device_);
  EXPECT_EQ(outcomes[0].token, 1);
  EXPECT_EQ(outcomes[1].token, 1);
  EXPECT_EQ(outcomes[2].token, 0);
  EXPECT_EQ(call.counts[8], kInPrompt + 1) << "the mark of the prompt stays";

  // Prompt tokens are not generated ones: presence and frequency leave them alone.
  SampleCall prompt;
  SampleRow& row = prompt.add(logits);
  row.temperature = 0.0F;
  row.presence_penalty = row.frequency_penalty = 2.0F;
  prompt.counts = {kInPrompt, 0, 0, 0};
  EXPECT_EQ(prompt.run(device_)[0].token, 0);

  // A negative logit is multiplied, so that it falls.
  SampleCall negative;
  SampleRow& falling = negative.add(std::vector<float>{-1.0F, -1.5F});
  falling.temperature = 0.0F;
  falling.repetition_penalty = 2.0F;
  negative.counts = {kInPrompt, 0};
  EXPECT_EQ(negative.run(device_)[0].token, 1);
}

TEST_P(Sampler, CountsStopAtTheirHighestValue) {
  SampleCall call;
  call.add(std::vector<float>{0.0F, 1.0F}).temperature = 0.0F;
  call.counts = {0, 0xffff};
  call.run(device_);
  EXPECT_EQ(call.counts[1], 0xffff);
}

TEST_P(Sampler, EditsAndMaskLimitWhatIsDrawn) {
  constexpr int kVocab = 70;
  const auto logits = random_values(random_, kVocab);
  SampleCall call;
  for (int i = 0; i < 200; ++i) {
    SampleRow& row = call.add(logits);
    row.position = i;
    row.mask = i % 2;
    row.first_edit = 0;
    row.num_edits = 1;
  }
  call.edits = {{66, -kInfinity}};
  call.masks = {0x00000010U, 0, 0x0000001cU, ~0U, ~0U, ~0U};  // {4, 66, 67, 68}, all
  const auto outcomes = call.run(device_);
  std::vector<int> seen(kVocab);
  for (std::size_t i = 0; i < outcomes.size(); i += 2) ++seen[size(outcomes[i].token)];
  EXPECT_EQ(seen[4] + seen[67] + seen[68], 100);
  EXPECT_GT(std::min({seen[4], seen[67], seen[68]}), 0);
  for (std::size_t i = 1; i < outcomes.size(); i += 2) EXPECT_NE(outcomes[i].token, 66);
}

TEST_P(Sampler, AMaskThatAllowsNothingFailsTheRow) {
  SampleCall call;
  const auto logits = random_values(random_, 40);
  call.add(logits).mask = 0;
  SampleRow& banned = call.add(logits);
  banned.mask = 1;
  banned.num_edits = 1;
  call.edits = {{3, -kInfinity}};
  call.masks = {0, 0, 8, 0};
  for (const SampleOutcome& outcome : call.run(device_)) {
    EXPECT_EQ(outcome.finite, 0);
    EXPECT_EQ(outcome.token, -1);
  }
}

TEST_P(Sampler, DrawsFollowTheFilteredDistribution) {
  constexpr int kVocab = 40;
  constexpr int kDraws = 4000;
  struct Filter {
    float temperature;
    int top_k;
    float top_p;
    float min_p;
  };
  for (const Filter filter : {Filter{1.0F, 0, 1.0F, 0.0F},
                              {0.7F, 0, 1.0F, 0.0F},
                              {1.0F, 5, 1.0F, 0.0F},
                              {1.3F, 0, 0.8F, 0.0F},
                              {1.0F, 0, 1.0F, 0.1F},
                              {1.0F, 10, 0.7F, 0.0F},
                              {2.0F, 20, 0.95F, 0.2F},
                              {1.0F, 1, 1.0F, 0.0F},
                              {1.0F, 0, 1e-6F, 0.0F}}) {
    SCOPED_TRACE(::testing::Message()
                 << "temperature " << filter.temperature << " top_k " << filter.top_k << " top_p "
                 << filter.top_p << " min_p " << filter.min_p << " seed " << kSeed);
    const auto logits = random_values(random_, kVocab, 3.0F);
    SampleCall call;
    for (int i = 0; i < kDraws; ++i) {
      SampleRow& row = call.add(logits);
      row.temperature = filter.temperature;
      row.top_k = filter.top_k;
      row.top_p = filter.top_p;
      row.min_p = filter.min_p;
      row.seed = kSeed + static_cast<std::uint64_t>(i % 4);
      row.position = i / 4;
    }
    const auto expected = distribution(logits, call.rows[0]);
    std::vector<int> observed(kVocab);
    for (const SampleOutcome& outcome : call.run(device_)) {
      ASSERT_GE(outcome.token, 0);
      ++observed[size(outcome.token)];
    }
    double chi_square = 0.0;
    int degrees = -1;
    for (std::size_t t = 0; t < kVocab; ++t) {
      if (expected[t] == 0.0) {
        EXPECT_EQ(observed[t], 0) << "token " << t << " was filtered";
        continue;
      }
      const double mean = expected[t] * kDraws;
      chi_square += (observed[t] - mean) * (observed[t] - mean) / mean;
      ++degrees;
    }
    // Mean `degrees`, variance twice that: four standard deviations.
    EXPECT_LE(chi_square, degrees + 4.0 * std::sqrt(2.0 * degrees) + 1e-9);
  }
}

TEST_P(Sampler, EachDrawIsTheTokenWhereTheCumulatedWeightPassesTheUniform) {
  constexpr int kVocab = 20000;
  for (const float spread : {0.5F, 6.0F}) {
    const auto logits = random_values(random_, kVocab, spread);
    for (const int top_k : {0, 50, 3000}) {
      for (const float top_p : {1.0F, 0.9F}) {
        SCOPED_TRACE(::testing::Message() << spread << " " << top_k << " " << top_p);
        SampleCall call;
        for (int i = 0; i < 8; ++i) {
          SampleRow& row = call.add(logits);
          row.top_k = top_k;
          row.top_p = top_p;
          row.seed = kSeed;
          row.position = 1000 + i;
        }
        const auto expected = distribution(logits, call.rows[0]);
        const auto outcomes = call.run(device_);
        for (std::size_t i = 0; i < outcomes.size(); ++i) {
          const auto token = outcomes[i].token;
          ASSERT_GE(token, 0);
          const double before = std::accumulate(expected.begin(), expected.begin() + token, 0.0);
          const double uniform = sampling_uniform(kSeed, call.rows[i].position);
          EXPECT_GE(uniform, before - 1e-5);
          EXPECT_LE(uniform, before + expected[size(token)] + 1e-5);
        }
      }
    }
  }
}

TEST_P(Sampler, ADrawDependsOnSeedAndPositionNotOnTheBatch) {
  constexpr int kVocab = 3000;
  const auto logits = random_values(random_, kVocab, 4.0F);
  const auto other = random_values(random_, kVocab, 4.0F);
  const auto configure = [](SampleRow& row, std::uint64_t seed, int position) {
    row.seed = seed;
    row.position = position;
    row.top_p = 0.95F;
  };
  SampleCall alone;
  configure(alone.add(logits), 42, 17);
  SampleCall batch;
  for (int i = 0; i < 15; ++i) configure(batch.add(other), 7, i);
  configure(batch.add(logits), 42, 17);
  const TokenId drawn = alone.run(device_)[0].token;
  EXPECT_EQ(batch.run(device_)[15].token, drawn);

  SampleCall many;
  for (int i = 0; i < 20; ++i) configure(many.add(logits), 42, i);
  for (int i = 0; i < 20; ++i) configure(many.add(logits), 43 + static_cast<std::uint64_t>(i), 17);
  std::vector<TokenId> tokens;
  for (const SampleOutcome& outcome : many.run(device_)) tokens.push_back(outcome.token);
  EXPECT_EQ(tokens[17], drawn);
  std::sort(tokens.begin(), tokens.end());
  EXPECT_GT(std::unique(tokens.begin(), tokens.end()) - tokens.begin(), 20);
}

TEST_P(Sampler, ATinyTemperatureIsGreedy) {
  const auto logits = random_values(random_, 500, 5.0F);
  SampleCall call;
  call.add(logits).temperature = 1e-30F;
  call.add(logits).temperature = std::numeric_limits<float>::denorm_min();
  const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
  for (const SampleOutcome& outcome : call.run(device_)) EXPECT_EQ(outcome.token, best);
}

INSTANTIATE_TEST_SUITE_P(Conformance, Sampler, ::testing::ValuesIn(backends()),
                         [](const auto& test) { return test.param.name; });

// Known answers of the reference implementation (Random123, kat_vectors).
TEST(SamplingRandom, MatchesThePublishedVectors) {
  const PhiloxBlock zero = philox4x32_10({{0, 0, 0, 0}}, 0, 0);
  EXPECT_EQ(zero.words[0], 0x6627e8d5U);
  EXPECT_EQ(zero.words[1], 0xe169c58dU);
  EXPECT_EQ(zero.words[2], 0xbc57ac4cU);
  EXPECT_EQ(zero.words[3], 0x9b00dbd8U);
  const PhiloxBlock pi = philox4x32_10({{0x243f6a88U, 0x85a308d3U, 0x13198a2eU, 0x03707344U}},
                                       0xa4093822U, 0x299f31d0U);
  EXPECT_EQ(pi.words[0], 0xd16cfe09U);
  EXPECT_EQ(pi.words[1], 0x94fdccebU);
  EXPECT_EQ(pi.words[2], 0x5001e420U);
  EXPECT_EQ(pi.words[3], 0x24126ea1U);
}

}  // namespace
}  // namespace latentd::conformance
