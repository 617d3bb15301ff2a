#include "loadtest/scenario.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "loadtest/url.h"

namespace latentd::loadtest {
namespace {

TEST(Scenario, ReadsEveryField) {
  const auto scenario = parse_scenario(R"(
name: mixed
arrivals: {process: gamma, rate: 5, cv: 3}
duration_s: 20
warmup_s: 2
seed: 9
tenants:
  - name: people
    weight: 3
    prompt_tokens: {median: 300, sigma: 0.8, min: 8, max: 4000}
    output_tokens: {min: 16, max: 32}
    shared_prefix: {tokens: 512, groups: 4}
    turns: 5
    think_s: 2
    cancel_rate: 0.25
  - name: batch
    api_key: secret
    priority: 5
    prompt_tokens: 1000
    slow_reader_rate: 0.5
slo: {ttft_ms: 1000, itl_ms: 50}
)");
  ASSERT_TRUE(scenario.ok()) << scenario.status().to_string();
  EXPECT_TRUE(validate(*scenario).ok()) << validate(*scenario).to_string();
  EXPECT_EQ(scenario->process, Process::kGamma);
  EXPECT_EQ(scenario->cv, 3.0);
  ASSERT_EQ(scenario->tenants.size(), 2U);
  const Tenant& people = scenario->tenants[0];
  EXPECT_EQ(people.prompt_tokens.median, 300.0);
  EXPECT_EQ(people.output_tokens.max, 32);
  EXPECT_EQ(people.prefix_tokens, 512);
  EXPECT_EQ(people.prefix_groups, 4);
  EXPECT_EQ(people.turns, 5);
  EXPECT_EQ(people.cancel_rate, 0.25);
  EXPECT_EQ(scenario->tenants[1].api_key, "secret");
  EXPECT_EQ(scenario->tenants[1].prompt_tokens.min, 1000);
  EXPECT_EQ(scenario->tenants[1].slow_reader_rate, 0.5);
  EXPECT_EQ(scenario->slo.itl_ms, 50.0);
}

TEST(Scenario, NamesTheFieldAtFault) {
  const std::pair<const char*, const char*> cases[] = {
      {"tenants: [{nmae: x}]", "tenants[0].nmae"},
      {"rate: 4", "rate"},
      {"arrivals: {process: daily}", "arrivals.process"},
      {"arrivals: {rate: fast}", "arrivals.rate"},
      {"tenants: []", "tenants"},
      {"tenants: [{prompt_tokens: {median: 5}}]", "tenants[0].prompt_tokens.sigma"},
      {"tenants: [{prompt_tokens: {min: 5}}]", "tenants[0].prompt_tokens"},
      {"slo: {ttft: 5}", "slo.ttft"},
      {"duration_s: [1]", "duration_s"},
  };
  for (const auto& [yaml, field] : cases) {
    const auto scenario = parse_scenario(yaml);
    ASSERT_FALSE(scenario.ok()) << yaml;
    EXPECT_EQ(scenario.status().field(), field) << yaml;
  }
  EXPECT_FALSE(parse_scenario("{").ok());
  EXPECT_FALSE(parse_scenario("- a list").ok());
}

TEST(Scenario, ValidationNamesLimitAndValue) {
  Scenario scenario;
  EXPECT_EQ(validate(scenario).field(), "duration_s");  // no end
  scenario.duration_s = 10;
  EXPECT_TRUE(validate(scenario).ok());
  scenario.warmup_s = 10;
  EXPECT_EQ(validate(scenario).field(), "warmup_s");
  scenario.warmup_s = 0;
  scenario.tenants[0].cancel_rate = 1.5;
  EXPECT_EQ(validate(scenario).to_string(),
            "INVALID_ARGUMENT: tenants[0].cancel_rate: must be 0 to 1, got 1.5");
  scenario.tenants[0].cancel_rate = 0;
  scenario.process = Process::kTrace;
  EXPECT_EQ(validate(scenario).field(), "trace");
}

TEST(Scenario, TheCommittedOnesAreValid) {
  int count = 0;
  for (const auto& file : std::filesystem::directory_iterator(LATENTD_SCENARIOS)) {
    auto scenario = read_scenario(file.path());
    ASSERT_TRUE(scenario.ok()) << file.path() << scenario.status().to_string();
    EXPECT_TRUE(validate(*scenario).ok()) << file.path() << validate(*scenario).to_string();
    EXPECT_EQ(scenario->name, file.path().stem().string());
    EXPECT_FALSE(scenario->description.empty());
    ++count;
  }
  EXPECT_GE(count, 8);
}

TEST(Url, IsTakenApart) {
  const auto url = parse_url("http://localhost:9000/base/", 80);
  ASSERT_TRUE(url.ok());
  EXPECT_EQ(url->host, "localhost");
  EXPECT_EQ(url->port, 9000);
  EXPECT_EQ(url->path, "/base");
  EXPECT_EQ(parse_url("[::1]:50", 80)->host, "::1");
  EXPECT_EQ(parse_url("10.0.0.1", 50051)->port, 50051);
  for (const char* bad : {"", "http://", "host:0", "host:99999", "host:x", "[::1", "https://h"}) {
    EXPECT_FALSE(parse_url(bad, 80).ok()) << bad;
  }
}

}  // namespace
}  // namespace latentd::loadtest
