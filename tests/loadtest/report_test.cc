#include "loadtest/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace latentd::loadtest {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;

Scenario two_tenants() {
  Scenario scenario;
  scenario.name = "a <b>";
  scenario.duration_s = 10.0;
  scenario.warmup_s = 1.0;
  scenario.slo.ttft_ms = 100.0;
  scenario.tenants.assign(2, Tenant{});
  scenario.tenants[1].name = "other";
  return scenario;
}

RunResult some_result(std::uint64_t ttft_us = 50'000) {
  RunResult result;
  Measures& measures = result.measures;
  measures.tenants.resize(2);
  measures.tenants[0].sent = measures.tenants[0].completed = 90;
  measures.tenants[0].output_tokens = 900;
  measures.tenants[0].good = 80;
  measures.tenants[0].prompt_tokens = 1000;
  measures.tenants[0].cached_tokens = 250;
  measures.tenants[1].sent = 10;
  measures.tenants[1].failed = 10;
  measures.errors["http 429"] = 10;
  measures.ttft.record(ttft_us, 90);
  measures.itl.record(1'000, 900);
  measures.e2e.record(100'000, 90);
  measures.seconds.resize(10);
  measures.samples.push_back({1.0F, 50.0F, 0});
  measures.window_tokens = measures.event_tokens = measures.usage_tokens = 900;
  measures.window_completed = 90;
  measures.counted = {87, 0, 3};
  measures.window_good = 80;
  return result;
}

TEST(Report, HasTheFieldsOfItsSchema) {
  const Json json = Json::parse(make_report(two_tenants(), RunOptions(), some_result()));
  EXPECT_EQ(json["schema"], "latentd.loadtest/1");
  for (const char* key :
       {"scenario", "target", "run", "requests", "errors", "latency_ms", "throughput", "goodput",
        "tokens", "fairness", "tenants", "server", "seconds", "percentiles", "samples"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
  for (const char* latency : {"ttft", "itl", "tpot", "e2e", "client_lag"}) {
    for (const char* column :
         {"count", "mean", "min", "p50", "p75", "p90", "p95", "p99", "p99.9", "max"}) {
      EXPECT_TRUE(json["latency_ms"][latency].contains(column)) << latency << " " << column;
    }
  }
  EXPECT_NEAR(json["latency_ms"]["ttft"]["p99"].get<double>(), 50.0, 0.2);
  EXPECT_DOUBLE_EQ(json["throughput"]["output_tokens_per_s"], 100.0);
  EXPECT_DOUBLE_EQ(json["goodput"]["fraction"], 0.8);
  EXPECT_DOUBLE_EQ(json["tokens"]["cached_fraction"], 0.25);
  EXPECT_DOUBLE_EQ(json["fairness"]["jain_output_tokens"], 0.5);
  EXPECT_DOUBLE_EQ(json["fairness"]["jain_served"], 0.5);
  EXPECT_EQ(json["errors"]["http 429"], 10);
  EXPECT_EQ(json["tenants"].size(), 2U);
}

TEST(Report, BecomesATableAndAPageThatStandsAlone) {
  const std::string report = make_report(two_tenants(), RunOptions(), some_result());
  const auto table = summary_table(report);
  ASSERT_TRUE(table.ok());
  EXPECT_THAT(*table, HasSubstr("http 429: 10"));
  EXPECT_THAT(*table, HasSubstr("80.0 % of requests"));
  EXPECT_THAT(*table, HasSubstr("counted by events in 3 answers"));
  const auto page = html_report(report);
  ASSERT_TRUE(page.ok());
  EXPECT_THAT(*page, HasSubstr("a &lt;b&gt;"));
  EXPECT_THAT(*page, HasSubstr("<svg"));
  EXPECT_THAT(*page, HasSubstr("<polyline"));
  EXPECT_THAT(*page, HasSubstr("class=\"limit\""));  // the SLO of first tokens
  EXPECT_THAT(*page, HasSubstr("class=\"shade\""));  // the warm-up
  for (const char* outside :
       {"src=", "href=", "url(", "@import", "<script", ",nan", "nan,", ">nan<", "inf,"}) {
    EXPECT_EQ(page->find(outside), std::string::npos) << outside;
  }
}

TEST(Report, OfARunWithoutAnswersIsStillAPage) {
  RunResult result;
  result.measures.tenants.resize(2);
  const auto page = html_report(make_report(two_tenants(), RunOptions(), result));
  ASSERT_TRUE(page.ok());
  EXPECT_THAT(*page, HasSubstr("</html>"));
}

TEST(Compare, MarksWhatIsWorseAndBetterBeyondTheThreshold) {
  const std::string a = make_report(two_tenants(), RunOptions(), some_result(50'000));
  const std::string b = make_report(two_tenants(), RunOptions(), some_result(80'000));
  const auto same = compare_reports(a, a, 0.05);
  ASSERT_TRUE(same.ok());
  EXPECT_FALSE(same->worse);
  EXPECT_EQ(same->text.find("worse"), std::string::npos);
  const auto slower = compare_reports(a, b, 0.05);
  ASSERT_TRUE(slower.ok());
  EXPECT_TRUE(slower->worse);
  EXPECT_THAT(slower->text, HasSubstr("+60."));
  const auto faster = compare_reports(b, a, 0.05);
  ASSERT_TRUE(faster.ok());
  EXPECT_FALSE(faster->worse);
  EXPECT_THAT(faster->text, HasSubstr("better"));
  EXPECT_FALSE(compare_reports(a, b, 0.7)->worse);
}

TEST(Compare, RefusesWhatIsNoReport) {
  const std::string good = make_report(two_tenants(), RunOptions(), some_result());
  for (const char* bad : {"", "{", "[]", "{\"schema\": \"other/1\"}"}) {
    EXPECT_FALSE(compare_reports(good, bad, 0.05).ok()) << bad;
    EXPECT_FALSE(html_report(bad).ok()) << bad;
  }
}

TEST(OutcomeLines, AreJsonALine) {
  const std::string lines = outcome_lines(
      {{3, 1, 0.5, 0.1, 20.0, 90.0, 7, 2, 42, ""}, {4, 0, 0.6, 0.1, 0.0, 1.0, 0, 0, 1, "closed"}});
  const Json first = Json::parse(lines.substr(0, lines.find('\n')));
  EXPECT_EQ(first["index"], 3);
  EXPECT_EQ(first["output_tokens"], 7);
  EXPECT_EQ(first["error"], "");
}

}  // namespace
}  // namespace latentd::loadtest
