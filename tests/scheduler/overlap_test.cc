// Two steps in flight, and preemption: what is released when, and that no text changes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/support/scheduler_harness.h"

namespace latentd {
namespace {

HarnessOptions small(int depth, bool overcommit = false) {
  HarnessOptions options;
  options.num_pages = 24;
  options.scheduler.max_num_seqs = 6;
  options.scheduler.max_num_batched_tokens = 64;
  options.scheduler.max_model_len = 300;
  options.scheduler.pipeline_depth = depth;
  options.scheduler.overcommit = overcommit;
  return options;
}

TEST(SchedulerOverlap, PlansTheNextTokenBeforeTheLastOneIsKnown) {
  SchedulerHarness harness(small(2));
  harness.submit(make_request(1, 20, 5, 1));
  harness.turn();
  EXPECT_EQ(harness.uncommitted(), 1);
  harness.turn();
  const PlanRow& row = harness.last_plan().rows[0];
  EXPECT_TRUE(row.pending_token);
  EXPECT_EQ(row.start, 20);
  EXPECT_EQ(row.count, 1);
  EXPECT_TRUE(harness.last_plan().tokens.empty());
  harness.run();
}

TEST(SchedulerOverlap, ReleasesPagesAndSlotOnlyWhenNothingIsInFlight) {
  HarnessOptions options = small(2);
  options.scheduler.max_num_seqs = 1;
  SchedulerHarness harness(options);
  auto request = make_request(1, 20, 50, 1);
  const auto text = FakeRunner::expected_text(*request, nullptr);
  request->stop_tokens = {text[0]};
  const RequestId id = harness.submit(std::move(request));
  const RequestId next = harness.submit(make_request(2, 20, 3, 2));
  harness.turn();
  harness.turn();  // step 2 is in flight when step 1 brings the stop token
  EXPECT_EQ(harness.heard(id).finished, FinishReason::kStop);
  EXPECT_EQ(harness.uncommitted(), 1);
  EXPECT_EQ(harness.blocks.stats().used, 2) << "a row in flight writes them";
  EXPECT_EQ(harness.scheduler.running_request(SlotId(0)), nullptr) << "it is retiring";
  EXPECT_FALSE(harness.scheduler.idle());
  EXPECT_EQ(harness.heard(next).started, 0) << "its slot is taken";
  harness.turn();  // commits step 2: that result is dropped
  EXPECT_EQ(harness.heard(id).text.size(), 1U);
  EXPECT_EQ(harness.blocks.stats().used, 0);
  harness.run();
  EXPECT_EQ(harness.heard(next).text.size(), 3U);
}

TEST(SchedulerOverlap, FreesThePagesOfACancelledRequestWithinTheDepthOfThePipeline) {
  for (const int depth : {1, 2}) {
    SchedulerHarness harness(small(depth));
    const RequestId id = harness.submit(make_request(1, 200, 50, 1));
    harness.turn();
    harness.turn();
    ASSERT_NE(harness.scheduler.running_request(SlotId(0)), nullptr);
    harness.cancel(id);
    for (int commits = harness.uncommitted(); commits > 0; --commits) harness.turn();
    EXPECT_EQ(harness.blocks.stats().used, 0) << depth;
    EXPECT_TRUE(harness.scheduler.idle());
  }
}

TEST(SchedulerOverlap, SharesNoPageThatIsStillBeingComputed) {
  SchedulerHarness harness(small(2));
  BatchPlan plan;
  harness.submit(make_request(1, 60, 5, 1));
  harness.turn();  // planned and not committed
  EXPECT_EQ(harness.blocks.stats().used, 4);
  const RequestId second = harness.submit(make_request(2, 60, 5, 1));
  harness.turn();
  EXPECT_EQ(harness.heard(second).started, 0);
  harness.turn();
  EXPECT_EQ(harness.heard(second).cached_tokens, 48);
  harness.run();
  EXPECT_EQ(harness.heard(second).text,
            FakeRunner::expected_text(*make_request(2, 60, 5, 1), nullptr));
}

using Texts = std::map<std::uint64_t, std::vector<TokenId>>;

Texts texts_of(const HarnessOptions& options, SchedulerStats* stats = nullptr) {
  SchedulerHarness harness(options);
  for (std::uint64_t id = 1; id <= 40; ++id) {
    auto request = make_request(id, 10 + static_cast<int>(id * 37 % 150), 70, id % 7);
    request->stop_tokens = {5};
    if (id % 6 == 0) request->constraint = std::make_unique<ResidueConstraint>(30);
    harness.submit(std::move(request));
    if (id % 3 == 0) harness.turn();
  }
  harness.run();
  if (stats != nullptr) *stats = harness.scheduler.stats();
  Texts texts;
  for (std::uint64_t id = 1; id <= 40; ++id) texts[id] = harness.heard(RequestId(id)).text;
  return texts;
}

TEST(SchedulerOverlap, GivesTheSameTextsAtDepthOneAtDepthTwoAndAfterPreemption) {
  const Texts plain = texts_of(small(1));
  EXPECT_EQ(texts_of(small(2)), plain);
  for (const int depth : {1, 2}) {
    SchedulerStats stats;
    EXPECT_EQ(texts_of(small(depth, true), &stats), plain);
    EXPECT_GT(stats.preemptions, 0U) << depth;
  }
}

TEST(SchedulerOvercommit, AdmitsMoreThanItCanPromise) {
  for (const bool overcommit : {false, true}) {
    SchedulerHarness harness(small(1, overcommit));
    // Each may need 10 pages of 24 and needs 1 now.
    for (std::uint64_t id = 1; id <= 6; ++id) harness.submit(make_request(id, 10, 150, id));
    harness.turn();
    EXPECT_EQ(harness.scheduler.stats().num_running, overcommit ? 6 : 2);
    harness.run();
    EXPECT_EQ(harness.scheduler.stats().preemptions > 0, overcommit);
  }
}

TEST(SchedulerOvercommit, PreemptsTheLastInOrderAndNeverTheFirst) {
  for (const int depth : {1, 2}) {
    SchedulerHarness harness(small(depth, true));
    for (std::uint64_t id = 1; id <= 6; ++id) {
      auto request = make_request(id, 10, 150, id);
      request->priority = id == 6 ? -1 : 0;  // the last to arrive is the first in order
      harness.submit(std::move(request));
    }
    harness.run();
    EXPECT_EQ(harness.heard(RequestId(6)).preemptions, 0);
    EXPECT_GT(harness.heard(RequestId(5)).preemptions, 0);
    EXPECT_LE(harness.heard(RequestId(1)).preemptions, harness.heard(RequestId(5)).preemptions);
    for (std::uint64_t id = 1; id <= 6; ++id) {
      EXPECT_EQ(harness.heard(RequestId(id)).text,
                FakeRunner::expected_text(*make_request(id, 10, 150, id), nullptr));
      EXPECT_EQ(harness.heard(RequestId(id)).started, 1) << "clients hear of one start";
    }
  }
}

TEST(SchedulerOvercommit, BringsAPreemptedSequenceBackWithTheTokensItHad) {
  SchedulerHarness harness(small(1, true));
  for (std::uint64_t id = 1; id <= 6; ++id) harness.submit(make_request(id, 10, 150, id));
  bool came_back = false;
  while (!harness.scheduler.idle()) {
    harness.turn();
    const BatchPlan& plan = harness.last_plan();
    for (const SlotStart& start : plan.starts) {
      if (start.num_generated == 0) continue;
      came_back = true;
      const auto& text = harness.heard(start.request->id).text;
      const auto first = plan.tokens.begin() + start.first_generated;
      ASSERT_LE(static_cast<std::size_t>(start.num_generated), text.size());
      EXPECT_TRUE(std::equal(first, first + start.num_generated, text.begin()));
    }
  }
  EXPECT_TRUE(came_back);
}

TEST(SchedulerOvercommit, ReportsPromptLogprobsOnceAlthoughPreempted) {
  for (const int depth : {1, 2}) {
    HarnessOptions options = small(depth, true);
    options.num_pages = 19;
    SchedulerHarness harness(options);
    harness.submit(make_request(1, 10, 200, 1));
    for (int i = 0; i < 8; ++i) harness.turn();
    auto request = make_request(2, 250, 20, 2);
    request->wants_prompt_logprobs = true;
    const RequestId id = harness.submit(std::move(request));
    harness.run();
    EXPECT_GT(harness.heard(id).preemptions, 0);
    EXPECT_EQ(harness.heard(id).prompt_logprobs.size(), 249U);
    EXPECT_EQ(harness.heard(id).text,
              FakeRunner::expected_text(*make_request(2, 250, 20, 2), nullptr));
  }
}

TEST(SchedulerOvercommit, EndsASequenceThatFinishesWhileItIsBeingPreempted) {
  // Whatever the moment at which a preempted sequence is cancelled, its pages come back.
  for (int turns = 1; turns < 120; turns += 3) {
    SchedulerHarness harness(small(2, true));
    for (std::uint64_t id = 1; id <= 6; ++id) harness.submit(make_request(id, 10, 60, id));
    for (int i = 0; i < turns && !harness.scheduler.idle(); ++i) harness.turn();
    for (std::uint64_t id = 4; id <= 6; ++id) harness.cancel(RequestId(id));
    harness.run();
    EXPECT_EQ(harness.blocks.stats().used, 0);
    EXPECT_EQ(harness.blocks.stats().promised, 0);
  }
}

}  // namespace
}  // namespace latentd
