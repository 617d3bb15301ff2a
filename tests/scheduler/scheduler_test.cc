#include "scheduler/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/scheduler_harness.h"

namespace latentd {
namespace {

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
  // 100 prompt tokens in pieces of 64, then 29 decode rows: the last token is never computed.
  EXPECT_EQ(harness.scheduler.stats().steps, 2U + 29U);
  EXPECT_EQ(harness.runner.tokens_computed(), 129U);
}

}  // namespace
}  // namespace latentd
