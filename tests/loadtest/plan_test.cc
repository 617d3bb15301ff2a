#include "loadtest/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

namespace latentd::loadtest {
namespace {

Scenario poisson(int requests) {
  Scenario scenario;
  scenario.rate = 10.0;
  scenario.requests = requests;
  return scenario;
}

std::vector<PlannedRequest> plan_of(const Scenario& scenario,
                                    const std::vector<TraceEntry>& trace = {}) {
  auto plan = make_plan(scenario, trace);
  EXPECT_TRUE(plan.ok()) << plan.status().to_string();
  return plan.ok() ? *plan : std::vector<PlannedRequest>();
}

std::vector<std::int32_t> tokens_of(const PlannedRequest& request) {
  std::vector<std::int32_t> tokens;
  append_tokens(request, {100, 50}, tokens);
  return tokens;
}

TEST(Plan, EqualSeedsMakeEqualTraffic) {
  Scenario scenario = poisson(50);
  scenario.tenants[0].prompt_tokens = {100.0, 1.0, 1, 1000};
  const auto a = plan_of(scenario);
  const auto b = plan_of(scenario);
  ASSERT_EQ(a.size(), 50U);
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].at_seconds, b[i].at_seconds);
    EXPECT_EQ(tokens_of(a[i]), tokens_of(b[i]));
  }
  scenario.seed = 2;
  EXPECT_NE(tokens_of(plan_of(scenario)[0]), tokens_of(a[0]));
}

TEST(Plan, PromptsHaveExactLengthsAndStayInTheRange) {
  for (const PlannedRequest& request : plan_of(poisson(20))) {
    const auto tokens = tokens_of(request);
    EXPECT_EQ(tokens.size(), 128U);
    EXPECT_EQ(request.prompt_tokens(), 128);
    EXPECT_GE(*std::ranges::min_element(tokens), 100);
    EXPECT_LT(*std::ranges::max_element(tokens), 150);
  }
}

TEST(Plan, ArrivalsRiseAndEndWithTheDuration) {
  Scenario scenario;
  scenario.rate = 100.0;
  scenario.duration_s = 10.0;
  const auto plan = plan_of(scenario);
  EXPECT_NEAR(static_cast<double>(plan.size()), 1000.0, 130.0);
  double before = 0.0;
  for (const PlannedRequest& request : plan) {
    EXPECT_GE(request.at_seconds, before);
    before = request.at_seconds;
  }
  EXPECT_LT(before, 10.0);
}

TEST(Plan, RequestsOfAGroupShareTheirPrefixAndNothingElse) {
  Scenario scenario = poisson(60);
  scenario.tenants[0].prefix_tokens = 64;
  scenario.tenants[0].prefix_groups = 3;
  std::map<std::vector<std::int32_t>, int> prefixes;
  std::set<std::vector<std::int32_t>> bodies;
  for (const PlannedRequest& request : plan_of(scenario)) {
    const auto tokens = tokens_of(request);
    ASSERT_EQ(tokens.size(), 64U + 128U);
    ++prefixes[{tokens.begin(), tokens.begin() + 64}];
    bodies.insert({tokens.begin() + 64, tokens.end()});
  }
  EXPECT_EQ(prefixes.size(), 3U);
  EXPECT_EQ(bodies.size(), 60U);
}

TEST(Plan, EachTurnOfASessionRepeatsTheTurnsBefore) {
  Scenario scenario = poisson(12);
  scenario.tenants[0].turns = 4;
  const auto plan = plan_of(scenario);
  ASSERT_EQ(plan.size(), 12U);
  int sessions = 0;
  for (std::size_t i = 0; i < plan.size(); ++i) {
    sessions += plan[i].first_turn ? 1 : 0;
    EXPECT_EQ(plan[i].first_turn, i % 4 == 0);
    if (i % 4 == 3) {
      EXPECT_EQ(plan[i].next_turn, -1);
      continue;
    }
    EXPECT_EQ(plan[i].next_turn, static_cast<std::int32_t>(i + 1));
    const auto now = tokens_of(plan[i]);
    const auto next = tokens_of(plan[i + 1]);
    // What was asked, the answer's length, the new question.
    EXPECT_EQ(next.size(), now.size() + 64 + 128);
    EXPECT_TRUE(std::equal(now.begin(), now.end(), next.begin()));
  }
  EXPECT_EQ(sessions, 3);
}

TEST(Plan, TenantsGetRequestsByTheirWeight) {
  Scenario scenario = poisson(4000);
  scenario.tenants.assign(2, Tenant{});
  scenario.tenants[0].weight = 3.0;
  int first = 0;
  for (const PlannedRequest& request : plan_of(scenario)) first += request.tenant == 0 ? 1 : 0;
  EXPECT_NEAR(first, 3000, 120);
}

TEST(Plan, SharesOfCancelsAndSlowReadersAreKept) {
  Scenario scenario = poisson(4000);
  scenario.tenants[0].cancel_rate = 0.25;
  scenario.tenants[0].slow_reader_rate = 0.1;
  int cancels = 0;
  int slow = 0;
  for (const PlannedRequest& request : plan_of(scenario)) {
    cancels += request.cancel_after >= 0 ? 1 : 0;
    slow += request.slow_reader ? 1 : 0;
    EXPECT_LT(request.cancel_after, request.max_tokens);
  }
  EXPECT_NEAR(cancels, 1000, 120);
  EXPECT_NEAR(slow, 400, 85);
}

TEST(Plan, ATraceIsReplayedScaledAndCut) {
  Scenario scenario;
  scenario.process = Process::kTrace;
  scenario.time_scale = 2.0;
  scenario.length_scale = 0.5;
  scenario.max_prompt_tokens = 600;
  const auto plan =
      plan_of(scenario, {{0.0, 1024, 10, {7, 8}}, {4.0, 1024, 10, {7, 9}}, {6.0, 4000, 1, {}}});
  ASSERT_EQ(plan.size(), 3U);
  EXPECT_EQ(plan[1].at_seconds, 2.0);
  EXPECT_EQ(plan[1].max_tokens, 5);
  EXPECT_EQ(plan[2].prompt_tokens(), 600);
  const auto a = tokens_of(plan[0]);
  const auto b = tokens_of(plan[1]);
  ASSERT_EQ(a.size(), 512U);
  ASSERT_EQ(b.size(), 512U);
  EXPECT_TRUE(std::equal(a.begin(), a.begin() + 256, b.begin()));  // block 7
  EXPECT_FALSE(std::equal(a.begin() + 256, a.end(), b.begin() + 256));
}

TEST(Plan, TheLengthScaleIsOfEveryLength) {
  Scenario scenario;
  scenario.requests = 4;
  scenario.tenants[0].prompt_tokens = {0.0, 0.0, 400, 400};
  scenario.tenants[0].output_tokens = {0.0, 0.0, 100, 100};
  scenario.tenants[0].prefix_tokens = 200;
  scenario.tenants[0].turns = 2;
  scenario.length_scale = 0.25;
  const auto plan = plan_of(scenario, {});
  ASSERT_EQ(plan.size(), 4U);
  EXPECT_EQ(plan[0].prompt_tokens(), 50 + 100);
  EXPECT_EQ(plan[0].max_tokens, 25);
  EXPECT_EQ(plan[1].prompt_tokens(), 50 + 100 + 25 + 100);
  const auto a = tokens_of(plan[0]);
  const auto b = tokens_of(plan[2]);
  EXPECT_TRUE(std::equal(a.begin(), a.begin() + 50, b.begin()));
}

TEST(Plan, WithoutARequestIsAnError) {
  Scenario scenario;
  scenario.rate = 0.001;
  scenario.duration_s = 0.001;
  EXPECT_EQ(make_plan(scenario, {}).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace latentd::loadtest
