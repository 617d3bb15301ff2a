#include "loadtest/sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace latentd::loadtest {
namespace {

auto server_that_holds(double limit, int& probes) {
  return [limit, &probes](double rate) -> Result<Probe> {
    ++probes;
    Probe probe;
    probe.rate = rate;
    probe.requests = 100;
    probe.met = rate <= limit;
    return probe;
  };
}

TEST(Sweep, FindsTheHighestRateWithinThePrecision) {
  for (const double limit : {0.07, 1.0, 3.3, 17.0, 900.0}) {
    SweepOptions options;
    options.max_probes = 40;
    options.precision = 0.05;
    int made = 0;
    const auto probes = sweep(options, server_that_holds(limit, made));
    ASSERT_TRUE(probes.ok());
    EXPECT_LE(best_rate(*probes), limit);
    EXPECT_GE(best_rate(*probes), limit / 1.05) << limit;
    EXPECT_LT(made, 20) << limit;
  }
}

TEST(Sweep, EndsAfterSoManyProbesAndSaysWhenNoneMet) {
  SweepOptions options;
  options.max_probes = 5;
  int made = 0;
  const auto probes = sweep(options, server_that_holds(0.0, made));
  ASSERT_TRUE(probes.ok());
  EXPECT_EQ(made, 5);
  EXPECT_EQ(best_rate(*probes), 0.0);
}

TEST(Sweep, EndsWhereAProbeIsTooShortForARequest) {
  SweepOptions options;
  int made = 0;
  const auto probes = sweep(options, [&](double rate) -> Result<Probe> {
    Probe probe = server_that_holds(0.0, made)(rate).value();
    if (rate < 0.2) probe.requests = 0;
    return probe;
  });
  ASSERT_TRUE(probes.ok());
  EXPECT_EQ(made, 4);  // at 1, 0.5, 0.25 and 0.125 requests/s
  EXPECT_EQ(probes->size(), 3U);

  const Probe nothing = judge(1.0, Scenario{}, RunResult{}, options);
  EXPECT_FALSE(nothing.met);
  EXPECT_THAT(probe_line(nothing), ::testing::HasSubstr("--duration"));
}

TEST(Sweep, JudgesByTheQuantileAndTheShareThatFailed) {
  Scenario scenario;
  scenario.duration_s = 1.0;
  scenario.slo = {100.0, 0.0, 0.0};
  RunResult result;
  result.measures.tenants.resize(1);
  result.measures.tenants[0].completed = 98;
  for (int i = 0; i < 98; ++i) result.measures.ttft.record(50'000);
  SweepOptions options;
  EXPECT_TRUE(judge(1.0, scenario, result, options).met);
  result.measures.ttft.record(200'000, 2);
  EXPECT_FALSE(judge(1.0, scenario, result, options).met);
  options.quantile = 0.9;
  EXPECT_TRUE(judge(1.0, scenario, result, options).met);
  result.measures.tenants[0].failed = 2;
  EXPECT_FALSE(judge(1.0, scenario, result, options).met);
  options.max_failed = 0.05;
  EXPECT_TRUE(judge(1.0, scenario, result, options).met);
}

}  // namespace
}  // namespace latentd::loadtest
