#include "scheduler/batch_plan.h"

#include <gtest/gtest.h>

namespace latentd {
namespace {

BatchPlan example() {
  BatchPlan plan;
  plan.step = 7;
  plan.starts.push_back({.slot = SlotId(2), .first_generated = 0, .num_generated = 3});
  plan.pages = {PageId(9), PageId(4)};
  plan.page_changes.push_back(
      {.slot = SlotId(2), .first_index = 1, .num_pages = 2, .first_page = 0});
  plan.rows.push_back({.slot = SlotId(0),
                       .start = 40,
                       .count = 1,
                       .logits = LogitsWanted::kLast,
                       .samples = true,
                       .pending_token = true});
  plan.rows.push_back({.slot = SlotId(2), .start = 16, .count = 5, .logits = LogitsWanted::kAll});
  plan.rows.push_back({.slot = SlotId(3), .start = 0, .count = 8});
  return plan;
}

TEST(BatchPlan, PrintsWhatItSays) {
  EXPECT_EQ(example().to_string(),
            "step 7: 14 tokens in 3 rows\n"
            "  start slot 2 generated 3\n"
            "  pages slot 2 from 1: 9 4\n"
            "  row slot 0 tokens 40..40 logits last samples pending\n"
            "  row slot 2 tokens 16..20 logits all\n"
            "  row slot 3 tokens 0..7 logits none");
}

TEST(BatchPlan, ComparesAsAValue) {
  BatchPlan other = example();
  EXPECT_EQ(other, example());
  other.rows[1].count = 6;
  EXPECT_NE(other, example());
}

TEST(BatchPlan, KeepsItsMemoryWhenCleared) {
  BatchPlan plan = example();
  const auto* rows = plan.rows.data();
  plan.clear();
  EXPECT_EQ(plan, BatchPlan{});
  EXPECT_TRUE(plan.empty());
  plan.rows.push_back({});
  EXPECT_EQ(plan.rows.data(), rows);
}

TEST(StepResult, ComparesAsAValue) {
  StepResult result;
  result.rows.push_back({.sampled = true, .sample = {.token = {.token = 4, .logprob = -1.0F}}});
  result.prompt_logprobs.push_back({.token = {.token = 5, .logprob = -2.0F}, .num_top = 1});
  result.top_logprobs.push_back({.token = 6, .logprob = -3.0F});
  StepResult other = result;
  EXPECT_EQ(other, result);
  other.top_logprobs[0].logprob = -4.0F;
  EXPECT_NE(other, result);
}

TEST(StepResult, KeepsItsMemoryWhenCleared) {
  StepResult result;
  result.step = 3;
  result.rows.resize(4);
  result.prompt_logprobs.resize(2);
  result.top_logprobs.resize(2);
  const auto* rows = result.rows.data();
  result.clear();
  EXPECT_EQ(result, StepResult{});
  result.rows.push_back({});
  EXPECT_EQ(result.rows.data(), rows);
}

}  // namespace
}  // namespace latentd
