#include "loadtest/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "loadtest/random.h"

namespace latentd::loadtest {
namespace {

double exact_quantile(std::vector<std::uint64_t> values, double fraction) {
  std::ranges::sort(values);
  const auto rank = static_cast<std::size_t>(
      std::max(1.0, std::ceil(fraction * static_cast<double>(values.size()))));
  return static_cast<double>(values[rank - 1]);
}

TEST(Histogram, IsEmptyAtFirst) {
  const Histogram histogram;
  EXPECT_EQ(histogram.count(), 0U);
  EXPECT_EQ(histogram.quantile(0.99), 0.0);
  EXPECT_EQ(histogram.mean(), 0.0);
  EXPECT_EQ(histogram.min(), 0U);
  EXPECT_EQ(histogram.max(), 0U);
}

TEST(Histogram, KeepsSmallValuesExactly) {
  Histogram histogram;
  for (std::uint64_t value = 0; value < 256; ++value) histogram.record(value);
  for (int i = 1; i <= 256; ++i) EXPECT_EQ(histogram.quantile(i / 256.0), i - 1) << i;
}

TEST(Histogram, QuantilesAreWithinTheStatedErrorOfTheExactOnes) {
  Random random(7);
  std::vector<std::uint64_t> values;
  Histogram histogram;
  for (int i = 0; i < 50'000; ++i) {
    // From microseconds to hours.
    const auto value = static_cast<std::uint64_t>(std::exp(random.uniform() * 23.0));
    values.push_back(value);
    histogram.record(value);
  }
  for (const double fraction : {0.001, 0.1, 0.25, 0.5, 0.9, 0.99, 0.999, 0.9999}) {
    const double exact = exact_quantile(values, fraction);
    EXPECT_NEAR(histogram.quantile(fraction), exact, exact * Histogram::kRelativeError + 1e-9)
        << fraction;
  }
  EXPECT_EQ(histogram.quantile(1.0), exact_quantile(values, 1.0));
  EXPECT_EQ(histogram.quantile(0.0), static_cast<double>(*std::ranges::min_element(values)));
}

TEST(Histogram, MergedThreadsEqualOneThread) {
  Random random(8);
  Histogram whole;
  Histogram parts[3];
  for (int i = 0; i < 9'999; ++i) {
    const std::uint64_t value = random.below(10'000'000);
    whole.record(value);
    parts[i % 3].record(value);
  }
  parts[0].merge(parts[1]);
  parts[0].merge(parts[2]);
  EXPECT_EQ(parts[0].count(), whole.count());
  EXPECT_EQ(parts[0].min(), whole.min());
  EXPECT_EQ(parts[0].max(), whole.max());
  EXPECT_NEAR(parts[0].mean(), whole.mean(), 1e-6 * whole.mean());
  for (const double fraction : {0.01, 0.5, 0.99}) {
    EXPECT_EQ(parts[0].quantile(fraction), whole.quantile(fraction));
  }
}

TEST(Histogram, CutsValuesBeyondItsRange) {
  Histogram histogram;
  histogram.record(~std::uint64_t{0});
  EXPECT_EQ(histogram.max(), Histogram::kMaxValue);
  EXPECT_EQ(histogram.quantile(0.5), static_cast<double>(Histogram::kMaxValue));
}

TEST(Histogram, CountsWhatIsBelowALimit) {
  Histogram histogram;
  for (std::uint64_t value = 1; value <= 100; ++value) histogram.record(value, 2);
  EXPECT_EQ(histogram.count_at_most(40), 80U);
  EXPECT_EQ(histogram.count_at_most(1'000'000), 200U);
}

}  // namespace
}  // namespace latentd::loadtest
