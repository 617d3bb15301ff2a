// The life of requests: limits, order, ends.
#include "scheduler/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/scheduler_harness.h"

namespace latentd {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;

HarnessOptions small(int depth = 1) {
  HarnessOptions options;
  options.scheduler.max_num_seqs = 8;
  options.scheduler.max_num_batched_tokens = 64;
  options.scheduler.max_model_len = 512;
  options.scheduler.pipeline_depth = depth;
  return options;
}

class SchedulerAtDepth : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Depth, SchedulerAtDepth, testing::Values(1, 2));

TEST_P(SchedulerAtDepth, GeneratesTheTextOfARequestAlone) {
  SchedulerHarness harness(small(GetParam()));
  auto request = make_request(1, 100, 30, 7);
  const auto expected = FakeRunner::expected_text(*request, nullptr);
  const RequestId id = harness.submit(std::move(request));
  harness.run();
  EXPECT_EQ(harness.heard(id).text, expected);
  EXPECT_EQ(harness.heard(id).finished, FinishReason::kLength);
  EXPECT_EQ(harness.heard(id).started, 1);
  // 100 prompt tokens in pieces of 64, then 29 decode rows: the last token is never computed, and
  // no row is planned past the limit.
  EXPECT_EQ(harness.scheduler.stats().steps, 2U + 29U);
  EXPECT_EQ(harness.runner.tokens_computed(), 129U);
  EXPECT_EQ(harness.scheduler.stats().prompt_tokens_computed, 100U);
  EXPECT_EQ(harness.scheduler.stats().generated_tokens, 30U);
}

TEST_P(SchedulerAtDepth, ComputesTheSameTextsAsDepthOneForManyRequests) {
  SchedulerHarness harness(small(GetParam()));
  std::vector<std::vector<TokenId>> expected;
  for (std::uint64_t id = 1; id <= 20; ++id) {
    auto request = make_request(id, 20 + static_cast<int>(id) * 3, 25, id % 5);
    request->stop_tokens = {1, 2, 3};
    expected.push_back(FakeRunner::expected_text(*request, nullptr));
    harness.submit(std::move(request));
  }
  harness.run();
  for (std::uint64_t id = 1; id <= 20; ++id) {
    EXPECT_EQ(harness.heard(RequestId(id)).text, expected[id - 1]) << id;
  }
}

TEST_P(SchedulerAtDepth, GeneratesNothingWhenNoNewTokensAreAskedFor) {
  SchedulerHarness harness(small(GetParam()));
  const RequestId id = harness.submit(make_request(1, 100, 0, 7));
  harness.run();
  EXPECT_TRUE(harness.heard(id).text.empty());
  EXPECT_EQ(harness.heard(id).finished, FinishReason::kLength);
  EXPECT_EQ(harness.runner.tokens_computed(), 100U);
  EXPECT_EQ(harness.scheduler.stats().steps, 2U);
}

TEST(Scheduler, RefusesWhatCanNeverRunAndSaysTheNumbers) {
  SchedulerHarness harness(small());  // 64 pages of 16 tokens, a context of 512
  const auto refusal = [&](std::unique_ptr<Request> request) {
    const Status status = harness.scheduler.check(*request);
    EXPECT_EQ(status.to_string(), harness.scheduler.submit(std::move(request), {}).to_string());
    return status;
  };
  EXPECT_EQ(refusal(make_request(1, 0, 5, 0)).field(), "prompt");
  EXPECT_EQ(refusal(make_request(1, 5, -1, 0)).field(), "max_tokens");

  auto too_long = make_request(1, 500, 13, 0);
  const Status context = harness.scheduler.check(*too_long);
  EXPECT_EQ(context.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(context.message(), HasSubstr("500 tokens and 13 new tokens are 513"));
  EXPECT_THAT(context.message(), HasSubstr("512"));
  EXPECT_TRUE(harness.scheduler.check(*make_request(1, 500, 12, 0)).ok());

  HarnessOptions tight = small();
  tight.num_pages = 4;
  SchedulerHarness narrow(tight);
  const Status pages = narrow.scheduler.submit(make_request(1, 60, 6, 0), {});
  EXPECT_THAT(pages.message(), HasSubstr("need 5 pages of 16 tokens; the cache has 4"));
  // 60 + 4 positions are written: the fifth token is sampled and never computed.
  EXPECT_TRUE(narrow.scheduler.submit(make_request(1, 60, 5, 0), {}).ok());
  narrow.run();
  EXPECT_TRUE(harness.scheduler.idle());
}

TEST(Scheduler, RefusesAnIdThatIsAlive) {
  SchedulerHarness harness(small());
  harness.submit(make_request(1, 10, 5, 0));
  EXPECT_EQ(harness.scheduler.submit(make_request(1, 10, 5, 0), {}).code(),
            StatusCode::kAlreadyExists);
  harness.run();
  harness.submit(make_request(2, 10, 5, 0));
  harness.run();
}

TEST(Scheduler, ValidatesItsOptions) {
  const auto field = [](auto change) {
    SchedulerOptions options = small().scheduler;
    change(options);
    return Scheduler::validate(options).field();
  };
  EXPECT_TRUE(Scheduler::validate(small().scheduler).ok());
  EXPECT_EQ(field([](auto& o) { o.max_num_seqs = 0; }), "max_num_seqs");
  EXPECT_EQ(field([](auto& o) { o.max_num_batched_tokens = 7; }), "max_num_batched_tokens");
  EXPECT_EQ(field([](auto& o) { o.prefill_alignment = 65; }), "max_num_batched_tokens");
  EXPECT_EQ(field([](auto& o) { o.prefill_alignment = -1; }), "prefill_alignment");
  EXPECT_EQ(field([](auto& o) { o.max_model_len = 0; }), "max_model_len");
  EXPECT_EQ(field([](auto& o) { o.pipeline_depth = 3; }), "pipeline_depth");
  EXPECT_EQ(field([](auto& o) { o.pass_limit = milliseconds(-1); }), "pass_limit");
}

TEST(Scheduler, PlansDecodeRowsFirstAndFillsTheBudgetWithPiecesOfPrompts) {
  SchedulerHarness harness(small());
  harness.submit(make_request(1, 10, 20, 1));
  harness.submit(make_request(2, 12, 20, 2));
  harness.turn();
  harness.submit(make_request(3, 100, 20, 3));
  harness.turn();
  const BatchPlan& plan = harness.last_plan();
  ASSERT_EQ(plan.rows.size(), 3U);
  EXPECT_EQ(plan.rows[0].count, 1);
  EXPECT_EQ(plan.rows[0].logits, LogitsWanted::kLast);
  EXPECT_EQ(plan.rows[1].count, 1);
  EXPECT_EQ(plan.rows[2].count, 62) << "the rest of the 64";
  EXPECT_EQ(plan.rows[2].logits, LogitsWanted::kNone) << "it does not reach the prompt's end";
  EXPECT_EQ(plan.num_tokens(), 64);
  harness.turn();
  EXPECT_EQ(harness.last_plan().rows[2].start, 62);
  EXPECT_EQ(harness.last_plan().rows[2].count, 38);
  EXPECT_TRUE(harness.last_plan().rows[2].samples);
  harness.run();
}

TEST(Scheduler, CarriesChangesOnly) {
  SchedulerHarness harness(small());
  harness.submit(make_request(1, 20, 30, 1));
  harness.turn();
  EXPECT_EQ(harness.last_plan().starts.size(), 1U);
  EXPECT_EQ(harness.last_plan().pages.size(), 2U);
  harness.turn();
  EXPECT_TRUE(harness.last_plan().starts.empty());
  EXPECT_TRUE(harness.last_plan().page_changes.empty());
  EXPECT_EQ(harness.last_plan().tokens.size(), 1U);
  for (int position = 21; position < 32; ++position) harness.turn();
  harness.turn();  // position 32 opens the third page
  ASSERT_EQ(harness.last_plan().page_changes.size(), 1U);
  EXPECT_EQ(harness.last_plan().page_changes[0].first_index, 2);
  EXPECT_EQ(harness.last_plan().page_changes[0].num_pages, 1);
  harness.run();
}

TEST(Scheduler, RunsUrgentRequestsFirstAndEqualOnesByArrival) {
  HarnessOptions options = small();
  options.scheduler.max_num_seqs = 1;
  SchedulerHarness harness(options);
  const int priorities[] = {0, 5, -3, 0, -3};
  for (std::uint64_t id = 1; id <= 5; ++id) {
    auto request = make_request(id, 10, 3, id);
    request->priority = priorities[id - 1];
    harness.submit(std::move(request));
  }
  harness.run();
  std::vector<std::pair<TimePoint, std::uint64_t>> order;
  for (std::uint64_t id = 1; id <= 5; ++id) {
    order.emplace_back(harness.heard(RequestId(id)).started_at, id);
  }
  std::sort(order.begin(), order.end());
  std::vector<std::uint64_t> ids;
  for (const auto& each : order) ids.push_back(each.second);
  EXPECT_THAT(ids, ElementsAre(3, 5, 1, 4, 2));
}

TEST(Scheduler, LetsAnUrgentPromptOvertakeALongOneThatIsBeingComputed) {
  SchedulerHarness harness(small());
  harness.submit(make_request(1, 400, 3, 1));
  harness.turn();
  auto urgent = make_request(2, 30, 3, 2);
  urgent->priority = -1;
  const RequestId id = harness.submit(std::move(urgent));
  harness.turn();
  EXPECT_EQ(harness.heard(id).text.size(), 1U);
  EXPECT_EQ(harness.last_plan().rows.size(), 2U) << "the long one has the rest of the budget";
  harness.run();
}

TEST_P(SchedulerAtDepth, EndsAtAStopTokenButNotBeforeMinNewTokens) {
  SchedulerHarness harness(small(GetParam()));
  auto request = make_request(1, 30, 40, 9);
  const auto text = FakeRunner::expected_text(*request, nullptr);
  // A token whose first occurrence is early, with min_new_tokens just beyond it.
  const auto stop = text[4];
  std::size_t second = 5;
  while (second < text.size() && text[second] != stop) ++second;
  request->stop_tokens = {stop};
  request->min_new_tokens = 6;
  const RequestId id = harness.submit(std::move(request));
  auto other = make_request(2, 30, 40, 9);
  other->sampling.seed = 1;
  other->stop_tokens = {stop};
  const RequestId early = harness.submit(std::move(other));
  harness.run();
  EXPECT_EQ(harness.heard(id).text.size(), std::min(second + 1, text.size()));
  EXPECT_EQ(harness.heard(early).finished, FinishReason::kStop);
  EXPECT_EQ(harness.heard(early).stop_token, stop);
  EXPECT_EQ(harness.heard(early).text.back(), stop) << "the stop token has its event";
  EXPECT_LE(harness.heard(early).text.size(), 5U);
}

TEST(Scheduler, ExpiresWaitingAndRunningRequestsAtTheirDeadline) {
  HarnessOptions options = small();
  options.scheduler.max_num_seqs = 1;
  SchedulerHarness harness(options);
  auto running = make_request(1, 10, 100, 1);
  running->deadline = harness.now + milliseconds(55);
  auto waiting = make_request(2, 10, 100, 2);
  waiting->deadline = harness.now + milliseconds(25);
  const RequestId first = harness.submit(std::move(running));
  const RequestId second = harness.submit(std::move(waiting));
  EXPECT_EQ(harness.scheduler.next_wakeup(), TimePoint{} + milliseconds(25));
  harness.turn();
  harness.turn();
  EXPECT_FALSE(harness.heard(second).finished);
  harness.turn();  // 30 ms
  EXPECT_EQ(harness.heard(second).finished, FinishReason::kDeadline);
  EXPECT_EQ(harness.scheduler.next_wakeup(), TimePoint{} + milliseconds(55));
  harness.run();
  EXPECT_EQ(harness.heard(first).finished, FinishReason::kDeadline);
  EXPECT_EQ(harness.heard(first).text.size(), 5U);
  EXPECT_EQ(harness.scheduler.next_wakeup(), kNever);
  EXPECT_EQ(harness.blocks.stats().used, 0);
}

TEST(Scheduler, ExpiresARequestThatComesTooLateAtOnce) {
  SchedulerHarness harness(small());
  harness.now += milliseconds(10);
  auto late = make_request(1, 10, 5, 1);
  late->deadline = harness.now;
  const RequestId id = harness.submit(std::move(late));
  harness.listen();
  EXPECT_EQ(harness.heard(id).finished, FinishReason::kDeadline);
  EXPECT_TRUE(harness.scheduler.idle());
}

TEST(Scheduler, IgnoresCancelsOfUnknownAndFinishedRequests) {
  SchedulerHarness harness(small());
  harness.cancel(RequestId(99));
  const RequestId id = harness.submit(make_request(1, 10, 2, 1));
  harness.run();
  harness.cancel(id);
  harness.listen();
  EXPECT_EQ(harness.heard(id).finished, FinishReason::kLength);
}

TEST(Scheduler, TellsClientsOfAFailedEngineThatTheyMayTryAgain) {
  SchedulerHarness harness(small());
  const RequestId id = harness.submit(make_request(1, 10, 20, 1));
  harness.turn();
  harness.scheduler.cancel(id, FinishReason::kError, harness.now);
  harness.listen();
  EXPECT_EQ(harness.heard(id).finished, FinishReason::kError);
  EXPECT_EQ(harness.heard(id).error.code(), StatusCode::kUnavailable);
}

TEST_P(SchedulerAtDepth, EndsAllInOrderOfArrival) {
  HarnessOptions options = small(GetParam());
  options.scheduler.max_num_seqs = 2;
  SchedulerHarness harness(options);
  for (std::uint64_t id = 5; id >= 1; --id) harness.submit(make_request(id, 30, 9, id));
  harness.turn();
  harness.turn();
  harness.cancel(RequestId(5));  // perhaps retiring: it is not ended twice
  harness.listen();
  harness.scheduler.cancel_all(FinishReason::kError, Status(StatusCode::kAborted, "the end"),
                               harness.now);
  std::vector<Event> events;
  harness.scheduler.drain_events(events);
  std::vector<std::uint64_t> ended;
  for (const Event& event : events) {
    EXPECT_EQ(event.kind, Event::Kind::kFinished);
    EXPECT_EQ(event.error.code(), StatusCode::kAborted);
    ended.push_back(event.request.value());
  }
  EXPECT_THAT(ended, ElementsAre(4, 3, 2, 1));
  harness.run();
  EXPECT_EQ(harness.blocks.stats().used, 0);
}

TEST_P(SchedulerAtDepth, CancelsInEveryState) {
  HarnessOptions options = small(GetParam());
  options.scheduler.max_num_seqs = 2;
  options.scheduler.overcommit = true;
  // Cancelled after t turns, the first is in its prompt, decoding, or preempted; the third waits.
  for (int turns = 0; turns < 40; ++turns) {
    SchedulerHarness harness(options);
    const RequestId first = harness.submit(make_request(1, 150, 20, 1));
    const RequestId second = harness.submit(make_request(2, 40, 20, 2));
    const RequestId third = harness.submit(make_request(3, 40, 20, 3));
    const RequestId parked = harness.submit(make_request(4, 150, 20, 1));
    for (int i = 0; i < turns && !harness.scheduler.idle(); ++i) harness.turn();
    const bool was_finished = harness.heard(first).finished.has_value();
    for (const RequestId id : {first, third, parked}) harness.cancel(id);
    harness.listen();
    EXPECT_TRUE(harness.heard(first).finished) << "at once";
    if (!was_finished) {
      EXPECT_EQ(harness.heard(first).finished, FinishReason::kCancelled);
    }
    harness.scheduler.check_invariants();
    harness.run();
    EXPECT_EQ(harness.heard(second).text,
              FakeRunner::expected_text(*make_request(2, 40, 20, 2), nullptr));
    EXPECT_EQ(harness.blocks.stats().used, 0);
    EXPECT_EQ(harness.blocks.stats().promised, 0);
  }
}

TEST_P(SchedulerAtDepth, FailsOnlyTheRequestWhoseRowFailed) {
  SchedulerHarness harness(small(GetParam()));
  const RequestId bad = harness.submit(make_request(1, 32, 40, 1));
  const RequestId good = harness.submit(make_request(2, 32, 40, 2));
  harness.runner.failing.insert(bad);
  harness.runner.failing_position = 50;
  harness.run();
  EXPECT_EQ(harness.heard(bad).finished, FinishReason::kError);
  EXPECT_EQ(harness.heard(bad).error.code(), StatusCode::kInternal);
  EXPECT_EQ(harness.heard(bad).text.size(), 19U) << "drawn after positions 31 .. 49";
  EXPECT_EQ(harness.heard(good).finished, FinishReason::kLength);
  EXPECT_EQ(harness.heard(good).text,
            FakeRunner::expected_text(*make_request(2, 32, 40, 2), nullptr));
}

TEST_P(SchedulerAtDepth, NeverPublishesAPageOfAFailedRow) {
  SchedulerHarness harness(small(GetParam()));
  const RequestId bad = harness.submit(make_request(1, 128, 4, 1));
  harness.runner.failing.insert(bad);
  harness.runner.failing_position = 100;  // in the second piece, positions 64 .. 127
  harness.run();
  EXPECT_EQ(harness.heard(bad).finished, FinishReason::kError);
  EXPECT_EQ(harness.blocks.stats().cached, 4) << "the first piece alone";
}

TEST(Scheduler, ReportsTheLogprobsOfAPromptOnceAndInOrder) {
  SchedulerHarness harness(small());
  const auto prompt = make_request(0, 100, 0, 5);
  harness.submit(make_request(1, 100, 2, 5));
  harness.run();
  auto request = make_request(2, 100, 3, 5);
  request->wants_prompt_logprobs = true;
  request->sampling.num_top_logprobs = 1;
  const RequestId id = harness.submit(std::move(request));
  harness.turn();
  EXPECT_EQ(harness.last_plan().rows[0].start, 0) << "it takes no prefix hit";
  EXPECT_EQ(harness.last_plan().rows[0].logits, LogitsWanted::kAll);
  harness.turn();
  EXPECT_EQ(harness.last_plan().rows[0].logits, LogitsWanted::kAll);
  EXPECT_TRUE(harness.last_plan().rows[0].samples) << "the last row reports and samples";
  harness.turn();
  EXPECT_EQ(harness.last_plan().rows[0].logits, LogitsWanted::kLast);
  harness.run();
  const Heard& heard = harness.heard(id);
  EXPECT_EQ(heard.cached_tokens, 0);
  ASSERT_EQ(heard.prompt_logprobs.size(), 99U);
  for (int i = 1; i < 100; ++i) {
    const TokenLogprob& reported = heard.prompt_logprobs[static_cast<std::size_t>(i - 1)];
    EXPECT_EQ(reported.token, prompt->prompt[static_cast<std::size_t>(i)]);
    EXPECT_EQ(reported.logprob, FakeRunner::expected_prompt_logprob(*prompt, i));
  }
  EXPECT_EQ(heard.text.size(), 3U);
}

TEST_P(SchedulerAtDepth, FollowsAConstraintToItsEnd) {
  SchedulerHarness harness(small(GetParam()));
  auto request = make_request(1, 30, 50, 3);
  request->constraint = std::make_unique<ResidueConstraint>(10);
  ResidueConstraint oracle(10);
  const auto expected = FakeRunner::expected_text(*request, &oracle);
  const RequestId id = harness.submit(std::move(request));
  harness.run();
  EXPECT_EQ(harness.heard(id).text, expected);
  EXPECT_EQ(harness.heard(id).text.size(), 10U);
  EXPECT_EQ(harness.heard(id).finished, FinishReason::kStop);
  EXPECT_EQ(harness.heard(id).stop_token, -1);
}

TEST_P(SchedulerAtDepth, EndsWithAnErrorWhenATokenIsNotAccepted) {
  SchedulerHarness harness(small(GetParam()));
  auto request = make_request(1, 30, 50, 3);
  ResidueConstraint oracle(10);
  const auto text = FakeRunner::expected_text(*request, &oracle);
  request->constraint = std::make_unique<ResidueConstraint>(10, text[6]);
  const auto refused = std::find(text.begin(), text.end(), text[6]) - text.begin();
  const RequestId id = harness.submit(std::move(request));
  const RequestId other = harness.submit(make_request(2, 30, 20, 4));
  harness.run();
  EXPECT_EQ(harness.heard(id).finished, FinishReason::kError);
  EXPECT_EQ(harness.heard(id).text.size(), static_cast<std::size_t>(refused));
  EXPECT_THAT(harness.heard(id).error.message(), HasSubstr("constraint"));
  EXPECT_EQ(harness.heard(other).text.size(), 20U);
}

TEST(Scheduler, CountsWhatItDoes) {
  SchedulerHarness harness(small());
  harness.submit(make_request(1, 40, 5, 1));
  EXPECT_EQ(harness.scheduler.stats().num_waiting, 1);
  harness.turn();
  EXPECT_EQ(harness.scheduler.stats().num_waiting, 0);
  EXPECT_EQ(harness.scheduler.stats().num_running, 1);
  EXPECT_FALSE(harness.scheduler.idle());
  EXPECT_EQ(harness.scheduler.stats().blocks.used, 3);
  harness.run();
  harness.submit(make_request(2, 40, 5, 1));
  harness.run();
  const SchedulerStats stats = harness.scheduler.stats();
  EXPECT_EQ(stats.num_running, 0);
  EXPECT_EQ(stats.prompt_tokens_computed, 40U + 8U);
  EXPECT_EQ(stats.prompt_tokens_cached, 32U);
  EXPECT_EQ(stats.prefix_queried_tokens, 80U);
  EXPECT_EQ(stats.generated_tokens, 10U);
  EXPECT_EQ(harness.heard(RequestId(2)).cached_tokens, 32);
}

TEST(Scheduler, AppendsEventsToThoseThatAreThere) {
  SchedulerHarness harness(small());
  std::vector<Event> events(1);
  ASSERT_TRUE(harness.scheduler.submit(make_request(1, 10, 5, 1), harness.now).ok());
  harness.cancel(RequestId(1));
  harness.scheduler.drain_events(events);
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[1].kind, Event::Kind::kFinished);
  harness.scheduler.drain_events(events);
  EXPECT_EQ(events.size(), 2U);
}

TEST(Scheduler, GivesItsPagesBackWhenDestroyed) {
  BlockManager blocks(64, 16);
  {
    Scheduler scheduler(small().scheduler, blocks);
    ASSERT_TRUE(scheduler.submit(make_request(1, 40, 5, 1), {}).ok());
    BatchPlan plan;
    ASSERT_TRUE(scheduler.schedule({}, plan));
    EXPECT_GT(blocks.stats().used, 0);
  }
  EXPECT_EQ(blocks.stats().used, 0);
}

TEST(SchedulerDeathTest, EndsTheProcessWhenItsCallerBreaksTheOrder) {
  BlockManager blocks(64, 16);
  SchedulerOptions bad;
  EXPECT_DEATH(Scheduler(bad, blocks), "max_model_len");
  Scheduler scheduler(small().scheduler, blocks);
  BatchPlan plan;
  StepResult result;
  EXPECT_DEATH(scheduler.commit(result, {}), "no plan is uncommitted");
  ASSERT_TRUE(scheduler.submit(make_request(1, 40, 5, 1), {}).ok());
  ASSERT_TRUE(scheduler.schedule({}, plan));
  EXPECT_DEATH(scheduler.schedule({}, plan), "1 plans are uncommitted");
  result.step = 9;
  EXPECT_DEATH(scheduler.commit(result, {}), "result of step 9");
  result.step = plan.step;
  EXPECT_DEATH(scheduler.commit(result, {}), "0 results for 1 rows");
  result.rows.resize(1);
  EXPECT_DEATH(scheduler.commit(result, {}), "sampled nothing");
}

}  // namespace
}  // namespace latentd
