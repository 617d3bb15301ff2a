#include "loadtest/arrivals.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace latentd::loadtest {
namespace {

std::vector<double> gaps(Process process, double rate, double cv, int count, std::uint64_t seed) {
  ArrivalProcess arrivals(process, rate, cv, seed);
  std::vector<double> out;
  double before = 0.0;
  for (int i = 0; i < count; ++i) {
    const double at = arrivals.next();
    out.push_back(at - before);
    before = at;
  }
  return out;
}

double mean(const std::vector<double>& values) {
  double sum = 0.0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double variation(const std::vector<double>& values) {
  const double centre = mean(values);
  double sum = 0.0;
  for (const double value : values) sum += (value - centre) * (value - centre);
  return std::sqrt(sum / static_cast<double>(values.size())) / centre;
}

// Largest distance between the values' distribution and `cdf` (Kolmogorov and Smirnov).
template <typename Cdf>
double ks_distance(std::vector<double> values, Cdf cdf) {
  std::ranges::sort(values);
  const auto count = static_cast<double>(values.size());
  double distance = 0.0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double expected = cdf(values[i]);
    distance = std::max({distance, expected - static_cast<double>(i) / count,
                         static_cast<double>(i + 1) / count - expected});
  }
  return distance;
}

constexpr int kCount = 20'000;
// Exceeded once in 1,000 seeds when the distribution is right; the seeds are fixed.
const double kKsBound = 1.95 / std::sqrt(static_cast<double>(kCount));

TEST(ArrivalProcess, PoissonGapsAreExponential) {
  const auto values = gaps(Process::kPoisson, 50.0, 1.0, kCount, 3);
  EXPECT_LT(ks_distance(values, [](double x) { return 1.0 - std::exp(-50.0 * x); }), kKsBound);
}

TEST(ArrivalProcess, PoissonCountsPassAChiSquareTest) {
  // Arrivals in windows with 4 expected, classes 0 .. 9 and more: 10 degrees of freedom.
  ArrivalProcess arrivals(Process::kPoisson, 4.0, 1.0, 11);
  constexpr int kWindows = 5'000;
  std::vector<int> counts(kWindows);
  for (double at = arrivals.next(); at < kWindows; at = arrivals.next()) {
    ++counts[static_cast<std::size_t>(at)];
  }
  std::vector<double> observed(11);
  for (const int count : counts) ++observed[static_cast<std::size_t>(std::min(count, 10))];
  double chi_square = 0.0;
  double term = std::exp(-4.0);
  double left = 1.0;
  for (std::size_t k = 0; k <= 10; ++k) {
    const double expected = kWindows * (k < 10 ? term : left);
    chi_square += (observed[k] - expected) * (observed[k] - expected) / expected;
    left -= term;
    term *= 4.0 / static_cast<double>(k + 1);
  }
  EXPECT_LT(chi_square, 29.6);  // once in 1,000
}

TEST(ArrivalProcess, GammaKeepsTheRateAndHasTheAskedVariation) {
  for (const double cv : {0.5, 2.0, 4.0}) {
    const auto values = gaps(Process::kGamma, 10.0, cv, 100'000, 5);
    EXPECT_NEAR(mean(values), 0.1, 0.1 * 4.0 * cv / std::sqrt(100'000.0)) << cv;
    EXPECT_NEAR(variation(values), cv, 0.06 * cv) << cv;
  }
}

TEST(ArrivalProcess, GammaWithVariationOneIsPoisson) {
  const auto values = gaps(Process::kGamma, 2.0, 1.0, kCount, 17);
  EXPECT_LT(ks_distance(values, [](double x) { return 1.0 - std::exp(-2.0 * x); }), kKsBound);
}

TEST(ArrivalProcess, ConstantIsAMetronome) {
  for (const double gap : gaps(Process::kConstant, 8.0, 1.0, 100, 1)) EXPECT_NEAR(gap, 0.125, 1e-9);
}

TEST(ArrivalProcess, EqualSeedsGiveEqualTimesAndOthersDoNot) {
  EXPECT_EQ(gaps(Process::kPoisson, 1.0, 1.0, 50, 9), gaps(Process::kPoisson, 1.0, 1.0, 50, 9));
  EXPECT_NE(gaps(Process::kPoisson, 1.0, 1.0, 50, 9), gaps(Process::kPoisson, 1.0, 1.0, 50, 10));
}

TEST(ArrivalProcess, NamesAreReadAndUnknownOnesRefused) {
  for (const char* name : {"poisson", "gamma", "constant", "closed", "trace"}) {
    const auto process = parse_process(name);
    ASSERT_TRUE(process.ok()) << name;
    EXPECT_EQ(process_name(*process), name);
  }
  EXPECT_EQ(parse_process("steady").status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace latentd::loadtest
