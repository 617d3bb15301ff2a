// A steady state allocates nothing: neither in schedule, nor in commit, nor in drain_events.
#include <gtest/gtest.h>

#include <vector>

#include "tests/support/allocation_counter.h"
#include "tests/support/scheduler_load.h"

namespace latentd {
namespace {

class SchedulerAllocation : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Depth, SchedulerAllocation, testing::Values(1, 2));

TEST_P(SchedulerAllocation, IsNothingInASteadyState) {
  LoadOptions options;
  options.num_running = 32;
  options.num_waiting = 128;
  options.pipeline_depth = GetParam();
  options.max_new_tokens = 64;
  options.num_pages = 300;
  SchedulerLoad load(options);
  load.fill_queue();
  for (int i = 0; i < 300; ++i) {  // buffers grow to what they need
    load.step();
    load.fill_queue();
  }
  std::uint64_t finished = 0;
  std::uint64_t allocations = 0;
  for (int i = 0; i < 500; ++i) {
    const std::uint64_t before = num_allocations();
    load.step();
    allocations += num_allocations() - before;
    for (const Event& event : load.events()) finished += event.kind == Event::Kind::kFinished;
    load.fill_queue();  // makes requests, which allocates
  }
  EXPECT_EQ(allocations, 0U);
  EXPECT_GT(finished, 100U) << "sequences came and went";
  EXPECT_GT(load.scheduler().stats().blocks.evictions, 100U);
  load.scheduler().check_invariants();
}

TEST(AllocationCounter, Counts) {
  const std::uint64_t before = num_allocations();
  // Grown step by step and read, so that no compiler may leave it out.
  std::vector<std::uint64_t> grown;
  while (grown.size() < 100) grown.push_back(before);
  EXPECT_EQ(grown.back(), before);
  EXPECT_GE(num_allocations() - before, 2U);
}

}  // namespace
}  // namespace latentd
