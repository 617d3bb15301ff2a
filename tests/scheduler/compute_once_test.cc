// A prompt is computed once, however many ask for it at a time.
#include <gtest/gtest.h>

#include "tests/support/scheduler_harness.h"

namespace latentd {
namespace {

class ComputeOnce : public testing::TestWithParam<int> {
 protected:
  HarnessOptions options() const {
    HarnessOptions options;
    options.num_pages = 128;
    options.page_tokens = 64;
    options.scheduler.max_num_seqs = 16;
    options.scheduler.max_num_batched_tokens = 256;
    options.scheduler.max_model_len = 2048;
    options.scheduler.pipeline_depth = GetParam();
    return options;
  }

  static void expect_text(SchedulerHarness& harness, std::uint64_t id, int prompt, int max_new) {
    EXPECT_EQ(harness.heard(RequestId(id)).text,
              FakeRunner::expected_text(*make_request(id, prompt, max_new, 1), nullptr))
        << id;
  }
};
INSTANTIATE_TEST_SUITE_P(Depth, ComputeOnce, testing::Values(1, 2));

TEST_P(ComputeOnce, EightChoicesOfAThousandTokensComputeTheirPromptOnce) {
  SchedulerHarness harness(options());
  for (std::uint64_t id = 1; id <= 8; ++id) harness.submit(make_request(id, 1000, 20, 1));
  harness.run();
  EXPECT_LT(harness.scheduler.stats().prompt_tokens_computed, 1000U + 8U * 64U);
  // 15 full pages are shared, the last 40 tokens are everybody's own.
  EXPECT_EQ(harness.scheduler.stats().prompt_tokens_computed, 1000U + 7U * 40U);
  for (std::uint64_t id = 1; id <= 8; ++id) expect_text(harness, id, 1000, 20);
}

TEST_P(ComputeOnce, ABurstWithOneSystemPromptComputesItOnce) {
  SchedulerHarness harness(options());
  for (std::uint64_t id = 1; id <= 12; ++id) {
    auto request = make_request(id, 640, 5, 1);
    const auto own = make_request(0, 30, 0, id + 100);
    request->prompt.insert(request->prompt.end(), own->prompt.begin(), own->prompt.end());
    harness.submit(std::move(request));
  }
  harness.run();
  EXPECT_EQ(harness.scheduler.stats().prompt_tokens_computed, 640U + 12U * 30U);
}

TEST_P(ComputeOnce, LetsWhoSharesNothingGoAheadOfThoseThatWait) {
  SchedulerHarness harness(options());
  harness.submit(make_request(1, 1000, 5, 1));
  harness.submit(make_request(2, 1000, 5, 1));
  const RequestId other = harness.submit(make_request(3, 20, 5, 2));
  harness.run();
  EXPECT_LT(harness.heard(other).started_at, harness.heard(RequestId(2)).started_at);
  EXPECT_EQ(harness.heard(RequestId(2)).cached_tokens, 960);
}

TEST_P(ComputeOnce, WaitsOnlyForWhatIsShared) {
  SchedulerHarness harness(options());
  harness.submit(make_request(1, 1000, 5, 1));
  auto request = make_request(2, 200, 5, 1);  // shares three full pages and goes on by itself
  const auto own = make_request(0, 100, 0, 50);
  request->prompt.insert(request->prompt.end(), own->prompt.begin(), own->prompt.end());
  request->priority = -1;
  const RequestId second = harness.submit(std::move(request));
  harness.run_steps(1);  // the more urgent one leads
  harness.run();
  EXPECT_EQ(harness.scheduler.stats().prompt_tokens_computed, 300U + 1000U - 192U);
  EXPECT_EQ(harness.heard(second).cached_tokens, 0);
  EXPECT_EQ(harness.heard(RequestId(1)).cached_tokens, 192);
}

TEST_P(ComputeOnce, GoesOnWhenTheLeaderIsCancelled) {
  for (int turns = 1; turns <= 5; ++turns) {
    SchedulerHarness harness(options());
    for (std::uint64_t id = 1; id <= 4; ++id) harness.submit(make_request(id, 1000, 5, 1));
    for (int i = 0; i < turns; ++i) harness.turn();
    harness.cancel(RequestId(1));
    harness.run();
    for (std::uint64_t id = 2; id <= 4; ++id) expect_text(harness, id, 1000, 5);
    EXPECT_LT(harness.scheduler.stats().prompt_tokens_computed, 2U * 1000U + 3U * 64U) << turns;
  }
}

TEST_P(ComputeOnce, GoesOnWhenTheLeaderFails) {
  SchedulerHarness harness(options());
  harness.runner.failing.insert(RequestId(1));
  harness.runner.failing_position = 600;
  for (std::uint64_t id = 1; id <= 4; ++id) harness.submit(make_request(id, 1000, 5, 1));
  harness.run();
  EXPECT_EQ(harness.heard(RequestId(1)).finished, FinishReason::kError);
  for (std::uint64_t id = 2; id <= 4; ++id) expect_text(harness, id, 1000, 5);
}

TEST_P(ComputeOnce, GoesOnWhenTheLeaderExpires) {
  SchedulerHarness harness(options());
  auto leader = make_request(1, 1000, 5, 1);
  leader->deadline = harness.now + std::chrono::milliseconds(25);
  harness.submit(std::move(leader));
  for (std::uint64_t id = 2; id <= 4; ++id) harness.submit(make_request(id, 1000, 5, 1));
  harness.run();
  EXPECT_EQ(harness.heard(RequestId(1)).finished, FinishReason::kDeadline);
  for (std::uint64_t id = 2; id <= 4; ++id) expect_text(harness, id, 1000, 5);
}

TEST_P(ComputeOnce, GoesOnWhenTheLeaderIsPreempted) {
  HarnessOptions tight = options();
  tight.num_pages = 12;
  tight.scheduler.max_model_len = 768;
  tight.scheduler.overcommit = true;
  SchedulerHarness harness(tight);
  // The first decodes into the pages that the second, a leader of the third, also needs.
  auto first = make_request(1, 60, 400, 7);
  first->priority = -1;
  harness.submit(std::move(first));
  for (std::uint64_t id = 2; id <= 4; ++id) harness.submit(make_request(id, 500, 60, 1));
  harness.run();
  EXPECT_GT(harness.scheduler.stats().preemptions, 0U);
  for (std::uint64_t id = 2; id <= 4; ++id) expect_text(harness, id, 500, 60);
}

TEST_P(ComputeOnce, ForgetsAWaiterThatIsCancelled) {
  SchedulerHarness harness(options());
  for (std::uint64_t id = 1; id <= 3; ++id) harness.submit(make_request(id, 1000, 5, 1));
  harness.turn();
  harness.cancel(RequestId(2));
  harness.listen();
  EXPECT_EQ(harness.heard(RequestId(2)).finished, FinishReason::kCancelled);
  harness.run();
  expect_text(harness, 3, 1000, 5);
}

TEST_P(ComputeOnce, RunsALeaderWithTheUrgencyOfWhoWaitsForIt) {
  SchedulerHarness harness(options());
  auto leader = make_request(1, 1000, 5, 1);
  leader->priority = 5;
  harness.submit(std::move(leader));
  harness.turn();
  auto middle = make_request(2, 2000, 5, 2);  // would hold the leader up, and so the urgent one
  middle->priority = 3;
  const RequestId other = harness.submit(std::move(middle));
  harness.turn();
  ASSERT_EQ(harness.heard(other).started, 1);
  auto urgent = make_request(3, 1000, 5, 1);
  urgent->priority = 0;
  const RequestId id = harness.submit(std::move(urgent));
  harness.run();
  EXPECT_EQ(harness.heard(id).cached_tokens, 960);
  EXPECT_LT(harness.heard(id).started_at - TimePoint{}, std::chrono::milliseconds(100));
  EXPECT_EQ(harness.heard(other).text.size(), 5U);
}

TEST_P(ComputeOnce, ServesHundredsThatWaitForOneLeader) {
  HarnessOptions many = options();
  many.page_tokens = 16;
  SchedulerHarness harness(many);
  for (std::uint64_t id = 1; id <= 400; ++id) harness.submit(make_request(id, 200, 2, 1));
  harness.run();
  EXPECT_EQ(harness.scheduler.stats().prompt_tokens_computed, 200U + 399U * 8U);
}

}  // namespace
}  // namespace latentd
