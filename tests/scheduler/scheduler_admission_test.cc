// Who is admitted when: exact arithmetic, passing, prefix hits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/scheduler_harness.h"

namespace latentd {
namespace {

using std::chrono::milliseconds;

HarnessOptions small(int num_pages) {
  HarnessOptions options;
  options.num_pages = num_pages;
  options.scheduler.max_num_seqs = 8;
  options.scheduler.max_num_batched_tokens = 64;
  options.scheduler.max_model_len = 512;
  return options;
}

std::vector<TokenId> text_alone(const Request& request) {
  return FakeRunner::expected_text(request, nullptr);
}

TEST(SchedulerAdmission, AdmitsOnlyWhatIsSureToEnd) {
  SchedulerHarness harness(small(10));
  // Each writes 33 + 15 positions: 3 pages, promised from the start though one is not yet needed.
  for (std::uint64_t id = 1; id <= 4; ++id) harness.submit(make_request(id, 33, 16, id));
  harness.turn();
  harness.turn();
  harness.turn();
  EXPECT_EQ(harness.scheduler.stats().num_running, 3);
  EXPECT_EQ(harness.scheduler.stats().num_waiting, 1) << "one page is left and three are needed";
  EXPECT_EQ(harness.blocks.available(), 1);
  harness.run();
  EXPECT_EQ(harness.scheduler.stats().preemptions, 0U);
  for (std::uint64_t id = 1; id <= 4; ++id) {
    EXPECT_EQ(harness.heard(RequestId(id)).text.size(), 16U);
  }
}

TEST(SchedulerAdmission, CountsPagesThatAHitPinsAgainstThosePromisedToOthers) {
  SchedulerHarness harness(small(8));
  harness.submit(make_request(1, 64, 2, 1));  // leaves 4 cached pages
  harness.run();
  ASSERT_EQ(harness.blocks.stats().cached, 4);
  // Promised 6 of 8 pages, held 1: the other promises reach into the cached ones.
  harness.submit(make_request(2, 16, 81, 2));
  harness.turn();
  ASSERT_EQ(harness.blocks.stats().promised, 5);
  ASSERT_EQ(harness.blocks.available(), 2);
  // Its hit of 4 cached pages spares all but one page, yet pinning them would break that promise.
  const RequestId greedy = harness.submit(make_request(3, 70, 2, 1));
  harness.turn();
  EXPECT_EQ(harness.heard(greedy).started, 0);
  harness.run();  // nobody runs out
  EXPECT_EQ(harness.heard(RequestId(2)).text.size(), 81U);
  EXPECT_EQ(harness.heard(greedy).text.size(), 2U);
}

TEST(SchedulerAdmission, PassesAHeadThatDoesNotFitForTwoSecondsAndThenWaitsForIt) {
  HarnessOptions options = small(16);
  options.scheduler.pass_limit = std::chrono::seconds(2);
  SchedulerHarness harness(options);
  harness.step_time = milliseconds(100);
  // Occupies 8 pages for 120 steps = 12 s.
  harness.submit(make_request(1, 8, 120, 1));
  harness.turn();
  const RequestId head = harness.submit(make_request(2, 200, 20, 2));  // 14 pages: has to wait
  std::vector<RequestId> others;
  for (std::uint64_t id = 3; id < 9; ++id) {
    others.push_back(harness.submit(make_request(id, 10, 6, id)));
    for (int i = 0; i < 7; ++i) harness.turn();  // 0.7 s
  }
  EXPECT_EQ(harness.heard(head).started, 0);
  EXPECT_EQ(harness.heard(others[0]).started, 1);
  EXPECT_EQ(harness.heard(others[1]).started, 1);
  EXPECT_EQ(harness.heard(others[2]).started, 1) << "at 1.5 s";
  EXPECT_EQ(harness.heard(others[3]).started, 0) << "at 2.2 s: the head has been passed for 2 s";
  EXPECT_EQ(harness.heard(others[5]).started, 0);
  auto urgent = make_request(20, 10, 6, 20);
  urgent->priority = -1;
  const RequestId before = harness.submit(std::move(urgent));
  harness.turn();
  EXPECT_EQ(harness.heard(before).started, 1) << "it is ahead of the head, not behind it";
  harness.run();
  EXPECT_LE(harness.heard(head).started_at, harness.heard(others[3]).started_at);
}

TEST(SchedulerAdmission, PassesOnlySoManyAtATime) {
  SchedulerHarness harness(small(16));
  harness.submit(make_request(1, 8, 120, 1));  // 8 pages
  harness.turn();
  for (std::uint64_t id = 2; id <= 10; ++id) harness.submit(make_request(id, 200, 20, id));
  const RequestId behind_nine = harness.submit(make_request(11, 10, 6, 11));
  harness.turn();
  harness.turn();
  EXPECT_EQ(harness.heard(behind_nine).started, 0) << "eight were passed, the ninth stops the walk";
  harness.cancel(RequestId(4));
  harness.turn();
  EXPECT_EQ(harness.heard(behind_nine).started, 1) << "eight are left to pass";
  harness.run();
}

TEST(SchedulerAdmission, HitsAtMostAllButOneTokenOfAPrompt) {
  SchedulerHarness harness(small(32));
  harness.submit(make_request(1, 64, 2, 1));
  harness.run();
  const RequestId equal = harness.submit(make_request(2, 64, 2, 1));
  harness.run();
  EXPECT_EQ(harness.heard(equal).cached_tokens, 48) << "the last page is computed, for its logits";
  EXPECT_EQ(harness.heard(equal).text, text_alone(*make_request(2, 64, 2, 1)));
  const RequestId longer = harness.submit(make_request(3, 65, 2, 1));
  harness.run();
  EXPECT_EQ(harness.heard(longer).cached_tokens, 64);
}

TEST(SchedulerAdmission, PublishesFullPagesAsEachPieceIsCommitted) {
  SchedulerHarness harness(small(64));
  harness.submit(make_request(1, 300, 2, 1));
  harness.turn();  // 64 of its tokens are committed
  EXPECT_EQ(harness.blocks.stats().used, 4);
  auto request = make_request(2, 64, 2, 1);  // the same first 64 tokens
  request->prompt.push_back(1);
  request->priority = -1;
  const RequestId second = harness.submit(std::move(request));
  harness.turn();
  EXPECT_EQ(harness.heard(second).cached_tokens, 64);
  EXPECT_FALSE(harness.heard(RequestId(1)).finished);
  harness.run();
}

TEST(SchedulerAdmission, KeepsGeneratedTokensForTheNextTurnOfAConversation) {
  SchedulerHarness harness(small(64));
  auto first = make_request(1, 30, 60, 1);
  const auto answer = text_alone(*first);
  harness.submit(std::move(first));
  harness.run();
  auto second = make_request(2, 30, 4, 1);
  second->prompt.insert(second->prompt.end(), answer.begin(), answer.end());
  const auto expected = text_alone(*second);
  const RequestId id = harness.submit(std::move(second));
  harness.run();
  EXPECT_EQ(harness.heard(id).cached_tokens, 80) << "89 positions were written: 5 full pages";
  EXPECT_EQ(harness.heard(id).text, expected);
}

TEST(SchedulerAdmission, KeepsGeneratedTokensToThemselvesWhenToldTo) {
  HarnessOptions options = small(64);
  options.scheduler.publish_generated = false;
  SchedulerHarness harness(options);
  auto first = make_request(1, 40, 60, 1);
  const auto answer = text_alone(*first);
  harness.submit(std::move(first));
  harness.run();
  EXPECT_EQ(harness.blocks.stats().cached, 2) << "the page that the prompt only begins is not one";
  auto second = make_request(2, 40, 4, 1);
  second->prompt.insert(second->prompt.end(), answer.begin(), answer.end());
  const RequestId id = harness.submit(std::move(second));
  harness.run();
  EXPECT_EQ(harness.heard(id).cached_tokens, 32);
}

TEST(SchedulerAdmission, HasNoPrefixCacheWhenItIsOff) {
  HarnessOptions options = small(64);
  options.scheduler.prefix_cache = false;
  SchedulerHarness harness(options);
  harness.submit(make_request(1, 64, 2, 1));
  harness.run();
  EXPECT_EQ(harness.blocks.stats().cached, 0);
  const RequestId id = harness.submit(make_request(2, 64, 2, 1));
  harness.run();
  EXPECT_EQ(harness.heard(id).cached_tokens, 0);
  EXPECT_EQ(harness.scheduler.stats().prefix_queried_tokens, 0U);
}

TEST(SchedulerAdmission, NeverSharesAcrossSalts) {
  SchedulerHarness harness(small(64));
  harness.submit(make_request(1, 100, 2, 1));
  harness.run();
  auto request = make_request(2, 100, 2, 1);
  request->salt = 5;
  const auto expected = text_alone(*request);
  const RequestId id = harness.submit(std::move(request));
  harness.run();
  EXPECT_EQ(harness.heard(id).cached_tokens, 0);
  EXPECT_EQ(harness.heard(id).text, expected);
}

TEST(SchedulerAdmission, CutsPromptsAtMultiplesOfTheAlignmentAndRoundsHitsDownToThem) {
  HarnessOptions options = small(64);
  options.scheduler.prefill_alignment = 32;
  options.scheduler.max_num_batched_tokens = 80;
  SchedulerHarness harness(options);
  harness.submit(make_request(1, 150, 2, 1));
  std::vector<int> ends;
  while (!harness.scheduler.idle()) {
    harness.turn();
    const PlanRow& row = harness.last_plan().rows[0];
    if (row.count > 1) ends.push_back(row.start + row.count);
  }
  EXPECT_THAT(ends, testing::ElementsAre(64, 128, 150));
  const RequestId again = harness.submit(make_request(2, 148, 2, 1));
  harness.run();
  EXPECT_EQ(harness.heard(again).cached_tokens, 128) << "144 are cached";
  EXPECT_EQ(harness.heard(again).text, text_alone(*make_request(2, 148, 2, 1)));
}

TEST(SchedulerAdmission, LetsNothingOvertakeAnAlignedPieceThatDoesNotFit) {
  HarnessOptions options = small(64);
  options.scheduler.max_num_seqs = 4;
  options.scheduler.prefill_alignment = 64;
  options.scheduler.max_num_batched_tokens = 64;
  SchedulerHarness harness(options);
  const RequestId decoding = harness.submit(make_request(1, 10, 20, 1));
  harness.turn();
  const RequestId aligned = harness.submit(make_request(2, 130, 2, 2));
  const RequestId short_one = harness.submit(make_request(3, 5, 2, 3));
  harness.turn();
  harness.turn();
  EXPECT_EQ(harness.heard(short_one).started, 0) << "or a stream of short ones could starve it";
  harness.run();
  EXPECT_LE(harness.heard(aligned).started_at, harness.heard(short_one).started_at);
  EXPECT_EQ(harness.heard(decoding).text.size(), 20U);
  EXPECT_EQ(harness.heard(aligned).text, text_alone(*make_request(2, 130, 2, 2)));
}

TEST(SchedulerAdmission, LetsNothingOvertakeAnAlignedPieceOfARunningPromptEither) {
  HarnessOptions options = small(64);
  options.scheduler.max_num_seqs = 4;
  options.scheduler.prefill_alignment = 64;
  options.scheduler.max_num_batched_tokens = 64;
  SchedulerHarness harness(options);
  const RequestId aligned = harness.submit(make_request(1, 130, 2, 1));
  harness.turn();  // its first 64 tokens
  auto urgent = make_request(2, 5, 10, 2);
  urgent->priority = -1;
  const RequestId decoding = harness.submit(std::move(urgent));
  harness.turn();
  const RequestId behind = harness.submit(make_request(3, 5, 2, 3));
  while (!harness.heard(decoding).finished) {
    EXPECT_EQ(harness.heard(behind).started, 0);
    harness.turn();
  }
  harness.run();
  EXPECT_EQ(harness.heard(aligned).text, text_alone(*make_request(1, 130, 2, 1)));
}

TEST(SchedulerAdmission, LooksAtABoundedNumberOfWaitingRequestsAStep) {
  HarnessOptions options = small(64);
  options.scheduler.max_num_seqs = 200;
  options.scheduler.max_num_batched_tokens = 1000;
  options.num_pages = 400;
  SchedulerHarness harness(options);
  for (std::uint64_t id = 1; id <= 150; ++id) harness.submit(make_request(id, 2, 8, id));
  harness.turn();
  EXPECT_EQ(harness.scheduler.stats().num_running, 64);
  harness.turn();
  EXPECT_EQ(harness.scheduler.stats().num_running, 128);
  harness.run();
}

}  // namespace
}  // namespace latentd
