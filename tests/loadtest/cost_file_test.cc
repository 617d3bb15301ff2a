#include "loadtest/cost_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace latentd::loadtest {
namespace {

using Json = nlohmann::json;

constexpr double kRoutedShare = 6.0 / 64.0;
constexpr CostModel kTruth = {.step = 300e-6,
                              .row = 120e-6,
                              .token = 25e-6,
                              .row_pair = 0.05e-6,
                              .token_pair = 0.02e-6,
                              .crowd_pair = 0.03e-6,
                              .experts = 7e-3,
                              .routed_share = kRoutedShare,
                              .door = 2e-3};

// The report of a run whose steps cost what kTruth says. `waited_ms` is what its requests waited.
std::string report_of(double steps, double decode_rows, double prefill_tokens, double decode_pairs,
                      double prefill_pairs, double waited_ms) {
  const StepWork work = {
      steps,
      decode_rows,
      prefill_tokens,
      decode_pairs,
      prefill_pairs,
      crowd_pairs(decode_pairs, decode_rows / steps),
      steps * experts_read(kRoutedShare, (decode_rows + prefill_tokens) / steps)};
  Json json;
  json["schema"] = "latentd.loadtest/1";
  json["server"]["engine"] = {{"steps", steps},
                              {"step_seconds", kTruth.seconds(work)},
                              {"tokens", decode_rows + prefill_tokens},
                              {"prefill_tokens", prefill_tokens}};
  json["server"]["prefill_ms_mean"] = 40.0;
  json["tokens"]["decode_pairs"] = decode_pairs;
  json["tokens"]["prefill_pairs"] = prefill_pairs;
  json["latency_ms"]["ttft"]["mean"] = 40.0 + kTruth.door * 1e3 + waited_ms;
  return json.dump();
}

std::vector<std::string> reports() {
  return {report_of(100, 2000, 50, 3e5, 1e4, 30.0), report_of(200, 200, 9000, 4e4, 4e6, 0.0),
          report_of(50, 50, 50, 2e4, 1e4, 5.0),     report_of(80, 900, 900, 2e6, 2e5, 9.0),
          report_of(120, 20, 100, 9e4, 9e6, 1.0),   report_of(10, 90, 9, 9e6, 1e3, 2.0),
          report_of(10, 320, 9, 9e5, 1e3, 2.0),     report_of(300, 300, 9, 6e5, 1e3, 2.0)};
}

TEST(CostFile, FindsWhatMadeTheReports) {
  const auto fit = fit_to_reports(reports(), kRoutedShare);
  ASSERT_TRUE(fit.ok()) << fit.status().to_string();
  EXPECT_NEAR(fit->model.step, kTruth.step, 1e-3 * kTruth.step);
  EXPECT_NEAR(fit->model.row, kTruth.row, 1e-3 * kTruth.row);
  EXPECT_NEAR(fit->model.token, kTruth.token, 1e-3 * kTruth.token);
  EXPECT_NEAR(fit->model.row_pair, kTruth.row_pair, 1e-3 * kTruth.row_pair);
  EXPECT_NEAR(fit->model.token_pair, kTruth.token_pair, 1e-3 * kTruth.token_pair);
  EXPECT_NEAR(fit->model.crowd_pair, kTruth.crowd_pair, 1e-3 * kTruth.crowd_pair);
  EXPECT_NEAR(fit->model.experts, kTruth.experts, 1e-3 * kTruth.experts);
  EXPECT_EQ(fit->model.routed_share, kRoutedShare);
  EXPECT_NEAR(fit->model.door, kTruth.door, 1e-9);  // of the run in which nobody waited
  EXPECT_LT(fit->worst_error, 1e-3);
}

TEST(CostFile, IsReadAsItWasWritten) {
  Fit fit;
  fit.model = kTruth;
  const auto model = parse_cost_json(cost_json(fit, 5));
  ASSERT_TRUE(model.ok()) << model.status().to_string();
  EXPECT_DOUBLE_EQ(model->step, kTruth.step);
  EXPECT_DOUBLE_EQ(model->experts, kTruth.experts);
  EXPECT_DOUBLE_EQ(model->routed_share, kTruth.routed_share);
  EXPECT_DOUBLE_EQ(model->door, kTruth.door);
}

TEST(CostFile, NamesWhatIsWrong) {
  EXPECT_EQ(parse_cost_json("[]").status().field(), "cost");
  Fit fit;
  fit.model = kTruth;
  Json json = Json::parse(cost_json(fit, 5));
  json["row_us"] = -1.0;
  EXPECT_EQ(parse_cost_json(json.dump()).status().field(), "cost.row_us");
  json.erase("row_us");
  EXPECT_EQ(parse_cost_json(json.dump()).status().field(), "cost.row_us");
  json["row_us"] = 1.0;
  json["routed_share"] = 1.5;
  EXPECT_EQ(parse_cost_json(json.dump()).status().field(), "cost.routed_share");

  auto few = reports();
  few.resize(5);
  EXPECT_EQ(fit_to_reports(few).status().field(), "measurements");
  few.push_back(reports()[5]);
  EXPECT_TRUE(fit_to_reports(few).ok());
  EXPECT_EQ(fit_to_reports(few, kRoutedShare).status().field(), "measurements");
  Json foreign = Json::parse(few[0]);
  foreign["server"].erase("engine");
  few[0] = foreign.dump();
  EXPECT_THAT(fit_to_reports(few).status().message(), testing::HasSubstr("server.engine"));
}

TEST(CostFile, TakesAListInMicroseconds) {
  const auto model = parse_cost_list("500,100,20,0.02,0.01");
  ASSERT_TRUE(model.ok());
  EXPECT_DOUBLE_EQ(model->row, 100e-6);
  EXPECT_DOUBLE_EQ(model->door, 0.0);
  for (const char* bad : {"1,2,3,4", "1,2,3,4,5,6", "a,b,c,d,e", "1,2,3,4,-5", "1,2,3,4,nan"}) {
    EXPECT_FALSE(parse_cost_list(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace latentd::loadtest
