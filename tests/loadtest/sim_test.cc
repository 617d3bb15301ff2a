#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "loadtest/sim/bench_csv.h"
#include "loadtest/sim/cost_model.h"
#include "loadtest/sim/simulator.h"

namespace latentd::loadtest {
namespace {

// As latentd-bench prints it.
constexpr const char* kHeader =
    "phase,rows,tokens,context,tokens_per_second,ms,best_ms,mbytes,gbytes_per_second,"
    "gpu_idle_us,gpu_forward_us,gpu_sample_us\n";

SimOptions options() {
  SimOptions options;
  options.scheduler.max_num_seqs = 4;
  options.scheduler.max_num_batched_tokens = 512;
  options.scheduler.max_model_len = 1024;
  options.num_pages = 64;
  options.cost = {0.010, 0.001, 0.0001, 0.0, 0.0, 0.0, 0.0};
  return options;
}

SimRequest asks(double at_seconds, int prompt_tokens, int output_tokens) {
  SimRequest request;
  request.at_seconds = at_seconds;
  request.prompt_tokens = prompt_tokens;
  request.output_tokens = output_tokens;
  return request;
}

using Events = std::vector<SimEvent>;

SimResult run(const SimOptions& options, const std::vector<SimRequest>& requests,
              Events* events = nullptr, bool equal_prompts = false) {
  auto result = simulate(
      options, requests,
      [&](std::size_t index, std::vector<TokenId>& out) {
        const int first = equal_prompts ? 0 : static_cast<int>(index) * 10'000;
        for (int i = 0; i < requests[index].prompt_tokens; ++i) out.push_back(first + i);
      },
      [events](const SimEvent& event) {
        if (events != nullptr) events->push_back(event);
      });
  EXPECT_TRUE(result.ok()) << result.status().to_string();
  return result.ok() ? *result : SimResult();
}

std::vector<double> times_of(const Events& events, SimEvent::Kind kind) {
  std::vector<double> times;
  for (const SimEvent& event : events) {
    if (event.kind == kind) times.push_back(to_seconds(event.time.time_since_epoch()));
  }
  return times;
}

TEST(Simulator, ALoneRequestTakesWhatItsStepsCost) {
  Events events;
  const SimResult result = run(options(), {asks(2.0, 100, 5)}, &events);
  // One prompt step of 10 ms + 100 x 0.1 ms, four decode steps of 11 ms.
  EXPECT_NEAR(result.outcomes[0].first_s, 0.020, 1e-6);
  EXPECT_NEAR(result.outcomes[0].end_s, 0.020 + 4 * 0.011, 1e-6);
  EXPECT_EQ(result.outcomes[0].tokens, 5);
  const auto tokens = times_of(events, SimEvent::Kind::kToken);
  ASSERT_EQ(tokens.size(), 5U);
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_NEAR(tokens[i], 2.020 + static_cast<double>(i) * 0.011, 1e-6);
  }
  EXPECT_NEAR(result.busy_s, 0.064, 1e-6);
  EXPECT_NEAR(result.simulated_s, 2.064, 1e-6);
}

TEST(Simulator, TheDoorsCostIsPartOfTheWait) {
  SimOptions with_door = options();
  with_door.cost.door = 0.5;
  EXPECT_NEAR(run(with_door, {asks(0.0, 100, 1)}).outcomes[0].first_s, 0.520, 1e-6);
}

TEST(Simulator, EveryRequestGetsItsTokensUnderOverload) {
  for (const bool overcommit : {false, true}) {
    for (const int depth : {1, 2}) {
      SimOptions crowded = options();
      crowded.num_pages = 12;
      crowded.scheduler.overcommit = overcommit;
      crowded.scheduler.pipeline_depth = depth;
      std::vector<SimRequest> requests;
      for (int i = 0; i < 40; ++i) requests.push_back(asks(i * 0.001, 100 + i, 60));
      const SimResult result = run(crowded, requests);
      for (const SimOutcome& outcome : result.outcomes) {
        EXPECT_EQ(outcome.tokens, 60);
        EXPECT_GT(outcome.end_s, outcome.first_s);
      }
      EXPECT_EQ(result.stats.generated_tokens, 40U * 60U);
      EXPECT_EQ(result.refused, 0U);
      if (!overcommit) {
        EXPECT_EQ(result.stats.preemptions, 0U);
      }
    }
  }
}

TEST(Simulator, EqualPromptsAreComputedOnce) {
  std::vector<SimRequest> requests;
  for (int i = 0; i < 4; ++i) requests.push_back(asks(i * 1.0, 256, 2));
  const SimResult cached = run(options(), requests, nullptr, true);
  EXPECT_EQ(cached.outcomes[0].cached_tokens, 0);
  EXPECT_EQ(cached.outcomes[3].cached_tokens, 192);  // full pages, and never the last token
  SimOptions without = options();
  without.scheduler.prefix_cache = false;
  EXPECT_EQ(run(without, requests, nullptr, true).outcomes[3].cached_tokens, 0);
}

TEST(Simulator, RefusesWhatCanNeverRunAndGoesOn) {
  const SimResult result = run(options(), {asks(0.0, 2000, 1), asks(0.1, 10, 3)});
  EXPECT_EQ(result.refused, 1U);
  EXPECT_LT(result.outcomes[0].first_s, 0.0);
  EXPECT_EQ(result.outcomes[1].tokens, 3);
}

TEST(Simulator, AClosedLoopKeepsSoManyUsersBusyUntilTheEnd) {
  SimOptions closed = options();
  closed.users = 2;
  std::vector<SimRequest> requests(7, asks(0.0, 10, 3));
  Events events;
  run(closed, requests, &events);
  int in_flight = 0;
  int most = 0;
  for (const SimEvent& event : events) {
    if (event.kind == SimEvent::Kind::kSent) most = std::max(most, ++in_flight);
    if (event.kind == SimEvent::Kind::kFinished) --in_flight;
  }
  EXPECT_EQ(most, 2);
  EXPECT_EQ(times_of(events, SimEvent::Kind::kFinished).size(), 7U);
  closed.end_s = 0.030;  // before the first answer is over
  events.clear();
  run(closed, requests, &events);
  EXPECT_EQ(times_of(events, SimEvent::Kind::kSent).size(), 2U);
  EXPECT_EQ(times_of(events, SimEvent::Kind::kFinished).size(), 2U);
}

TEST(Simulator, ATurnFollowsTheAnswerBeforeAndAThought) {
  std::vector<SimRequest> requests = {asks(1.0, 100, 2), asks(0.0, 150, 2), asks(5.0, 10, 1)};
  requests[0].next_turn = 1;
  requests[0].think_s = 0.25;
  requests[1].first_turn = false;
  Events events;
  const SimResult result = run(options(), requests, &events);
  const auto sent = times_of(events, SimEvent::Kind::kSent);
  ASSERT_EQ(sent.size(), 3U);
  EXPECT_NEAR(sent[1], 1.0 + result.outcomes[0].end_s + 0.25, 1e-6);
  EXPECT_NEAR(sent[2], 5.0, 1e-6);
}

TEST(Simulator, WhoHangsUpGetsNoMoreAndGivesItsPagesBack) {
  SimOptions tight = options();
  tight.num_pages = 10;
  std::vector<SimRequest> requests = {asks(0.0, 64, 500), asks(0.001, 64, 500)};
  requests[0].cancel_after = 3;
  Events events;
  const SimResult result = run(tight, requests, &events);
  EXPECT_EQ(result.outcomes[0].tokens, 4);
  EXPECT_EQ(result.outcomes[1].tokens, 500);
  EXPECT_EQ(times_of(events, SimEvent::Kind::kCancelled).size(), 1U);
  EXPECT_EQ(times_of(events, SimEvent::Kind::kFinished).size(), 1U);
}

TEST(Simulator, AFullHouseRefuses) {
  SimOptions small = options();
  small.max_queue = 2;
  Events events;
  const SimResult result =
      run(small, {asks(0.0, 10, 5), asks(0.0, 10, 5), asks(0.0, 10, 5), asks(9.0, 10, 5)}, &events);
  EXPECT_EQ(result.refused, 1U);
  EXPECT_EQ(times_of(events, SimEvent::Kind::kRefused).size(), 1U);
  EXPECT_EQ(result.outcomes[2].tokens, 0);
  EXPECT_EQ(result.outcomes[3].tokens, 5);
}

TEST(Simulator, SaltsKeepTenantsApart) {
  std::vector<SimRequest> requests = {asks(0.0, 256, 2), asks(1.0, 256, 2), asks(2.0, 256, 2)};
  requests[1].salt = 7;
  const SimResult result = run(options(), requests, nullptr, true);
  EXPECT_EQ(result.outcomes[1].cached_tokens, 0);
  EXPECT_EQ(result.outcomes[2].cached_tokens, 192);
}

TEST(Simulator, EqualPromptsThatArriveTogetherAreComputedOnce) {
  const std::vector<SimRequest> requests(4, asks(0.0, 256, 2));
  EXPECT_EQ(run(options(), requests, nullptr, true).stats.prompt_tokens_computed, 256U + 3U * 64U);
}

TEST(Simulator, IsDeterministic) {
  std::vector<SimRequest> requests;
  for (int i = 0; i < 100; ++i) requests.push_back(asks(i * 0.01, 50 + i % 7, 20));
  const SimResult a = run(options(), requests);
  const SimResult b = run(options(), requests);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(a.outcomes[i].first_s, b.outcomes[i].first_s);
    EXPECT_EQ(a.outcomes[i].end_s, b.outcomes[i].end_s);
  }
}

TEST(Simulator, NamesWhatIsWrongWithItsOptions) {
  const auto status = [](const SimOptions& wrong, const std::vector<SimRequest>& requests) {
    return simulate(wrong, requests, {}, {}).status().field();
  };
  SimOptions wrong = options();
  wrong.num_pages = 0;
  EXPECT_EQ(status(wrong, {}), "num_pages");
  wrong = options();
  wrong.cost = {0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0};
  EXPECT_EQ(status(wrong, {}), "cost");
  EXPECT_EQ(status(options(), {asks(2.0, 1, 1), asks(1.0, 1, 1)}), "requests");
}

TEST(CostModel, FindsTheCoefficientsThatMadeTheMeasurements) {
  const CostModel truth = {300e-6, 120e-6, 25e-6, 0.05e-6, 0.02e-6, 0.03e-6};
  std::vector<Measurement> measurements;
  for (const double rows : {1.0, 4.0, 16.0}) {
    for (const double context : {64.0, 512.0}) {
      const StepWork work = {
          1.0, rows, 0.0, rows * context, 0.0, crowd_pairs(rows * context, rows)};
      measurements.push_back({work, truth.seconds(work)});
    }
  }
  for (const double tokens : {32.0, 128.0, 1024.0}) {
    const StepWork work = {std::max(1.0, tokens / 512.0), 0.0, tokens, 0.0,
                           tokens * tokens / 2.0,         0.0};
    measurements.push_back({work, truth.seconds(work)});
  }
  const auto fit = fit_cost_model(measurements);
  ASSERT_TRUE(fit.ok());
  EXPECT_NEAR(fit->model.step, truth.step, 1e-3 * truth.step);
  EXPECT_NEAR(fit->model.row, truth.row, 1e-3 * truth.row);
  EXPECT_NEAR(fit->model.token, truth.token, 1e-3 * truth.token);
  EXPECT_NEAR(fit->model.row_pair, truth.row_pair, 1e-3 * truth.row_pair);
  EXPECT_NEAR(fit->model.token_pair, truth.token_pair, 1e-3 * truth.token_pair);
  EXPECT_NEAR(fit->model.crowd_pair, truth.crowd_pair, 1e-3 * truth.crowd_pair);
  EXPECT_LT(fit->worst_error, 1e-3);
}

TEST(CostModel, ACrowdBeginsAfterTheFirstRows) {
  EXPECT_EQ(crowd_pairs(800.0, kCrowd), 0.0);
  EXPECT_EQ(crowd_pairs(800.0, 2.0 * kCrowd), 400.0);
}

TEST(CostModel, AStepReadsTheExpertsThatItsTokensChose) {
  EXPECT_EQ(experts_read(0.0, 100.0), 0.0);  // dense
  EXPECT_DOUBLE_EQ(experts_read(0.25, 1.0), 0.25);
  EXPECT_DOUBLE_EQ(experts_read(0.25, 2.0), 0.4375);
  EXPECT_NEAR(experts_read(0.25, 100.0), 1.0, 1e-9);
  BatchPlan plan;
  plan.rows.resize(2);
  plan.rows[0].count = 1;
  plan.rows[1].count = 3;
  EXPECT_DOUBLE_EQ(work_of(plan, 0.25).experts, experts_read(0.25, 4.0));
}

// latentd-bench's rows of DeepSeek-V2-Lite on an H200: the second token of a step costs nearly what
// the first one does, the 200th nothing.
TEST(CostModel, FollowsAMixtureOfExperts) {
  std::string csv = "phase,rows,tokens,context,ms\n";
  csv += "prefill,1,1024,0,15.926\nprefill,1,4096,0,53.542\nprefill,1,32768,0,697.075\n";
  csv += "decode,1,1,1024,2.659\ndecode,8,8,1024,5.918\ndecode,32,32,1024,9.128\n";
  csv += "decode,128,128,1024,10.979\ndecode,256,256,4096,19.377\nmixed,128,640,1024,14.963\n";
  const auto worst = [&csv](double share) {
    const auto rows = parse_bench_csv(csv, 2048, share);
    EXPECT_TRUE(rows.ok()) << rows.status().to_string();
    return fit_cost_model(*rows, share)->worst_error;
  };
  EXPECT_LT(worst(6.0 / 64.0), 0.1);
  EXPECT_GT(worst(0.0), 0.3);
}

TEST(CostModel, NothingCostsLessThanNothing) {
  // More context, less time: noise, and no reason to simulate faster steps for longer texts.
  std::vector<Measurement> measurements;
  for (const double context : {100.0, 200.0, 300.0, 400.0, 500.0}) {
    measurements.push_back({{1.0, 1.0, 0.0, context, 0.0, 0.0}, 1e-3 - context * 1e-7});
    measurements.push_back({{1.0, 0.0, context, 0.0, context, 0.0}, 1e-3 + context * 1e-5});
  }
  const auto fit = fit_cost_model(measurements);
  ASSERT_TRUE(fit.ok());
  EXPECT_GE(fit->model.step, 0.0);
  EXPECT_GE(fit->model.row, 0.0);
  EXPECT_GE(fit->model.token, 0.0);
  EXPECT_GE(fit->model.row_pair, 0.0);
  EXPECT_GE(fit->model.token_pair, 0.0);
  EXPECT_LT(fit->mean_error, 0.1);
}

TEST(CostModel, ReadsTheOutputOfTheBench) {
  const auto rows =
      parse_bench_csv(std::string(kHeader) +
                          "prefill,1,1024,0,1000.0,1024.000,1000.0,15.1,0.01,0.0,0.0,0.0\n"
                          "decode,4,4,64,1532.3,0.653,0.356,12.5,19.14,0.0,0.0,0.0\n"
                          "prefill,2,128,0,1000.0,128.0,100.0,15.1,0.01,0.0,0.0,0.0\n"
                          "mixed,4,104,64,1000.0,50.0,40.0,15.1,0.01,0.0,0.0,0.0\n",
                      512, 0.25);
  ASSERT_TRUE(rows.ok()) << rows.status().to_string();
  ASSERT_EQ(rows->size(), 4U);
  EXPECT_EQ((*rows)[0].work.steps, 2.0);
  EXPECT_EQ((*rows)[0].work.prefill_tokens, 1024.0);
  EXPECT_EQ((*rows)[0].work.prefill_pairs, 1024.0 * 1025.0 / 2.0);
  EXPECT_EQ((*rows)[1].work.decode_rows, 4.0);
  EXPECT_EQ((*rows)[1].work.decode_pairs, 260.0);
  EXPECT_NEAR((*rows)[1].seconds, 0.653e-3, 1e-9);
  EXPECT_EQ((*rows)[2].work.prefill_pairs, 2.0 * 64.0 * 65.0 / 2.0);  // two prompts of 64
  EXPECT_EQ((*rows)[1].work.experts, experts_read(0.25, 4.0));
  EXPECT_EQ((*rows)[0].work.experts, 2.0 * experts_read(0.25, 512.0));
  EXPECT_EQ((*rows)[3].work.decode_rows, 4.0);
  EXPECT_EQ((*rows)[3].work.prefill_tokens, 100.0);
  EXPECT_EQ((*rows)[3].work.prefill_pairs, 100.0 * 101.0 / 2.0);
  EXPECT_EQ((*rows)[3].work.experts, experts_read(0.25, 104.0));
}

TEST(CostModel, NamesTheLineOfAFault) {
  for (const char* line : {"decode,4", "decode,x,4,64,1,0.6,0.3,12,19",
                           "mixed,4,4,64,1,0.6,0.3,12,19", "filled,4,4,64,1,0.6,0.3,12,19",
                           "decode,4,4,64,1,0,0.3,12,19", "decode,0,4,64,1,0.6,0.3,12,19"}) {
    const auto rows = parse_bench_csv(std::string(kHeader) + line + "\n", 512);
    ASSERT_FALSE(rows.ok()) << line;
    EXPECT_THAT(rows.status().message(), testing::HasSubstr("line 2")) << line;
  }
  const auto headless = parse_bench_csv("phase,rows,tokens,context\n", 512);
  ASSERT_FALSE(headless.ok());
  EXPECT_THAT(headless.status().message(), testing::HasSubstr("'ms'"));
  EXPECT_FALSE(fit_cost_model({}).ok());
}

}  // namespace
}  // namespace latentd::loadtest
