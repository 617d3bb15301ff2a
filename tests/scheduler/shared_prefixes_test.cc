// Which decode rows are said to share prefixes, held to a naive model that compares page tables.
#include "scheduler/shared_prefixes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "tests/support/scheduler_harness.h"

namespace latentd {
namespace {

constexpr std::uint64_t kSeed = 20261130;
constexpr int kPageTokens = 16;

// A decode row: its slot and the pages of the positions before its own.
struct Row {
  int slot = 0;
  std::vector<int> pages;
};

// Rows (by slot), begin and end of a prefix.
using Prefix = std::tuple<std::set<int>, int, int>;

// By definition: of rows that share `begin` tokens, those that share policy.min_tokens more are one
// prefix of all tokens that they share.
void find_naively(const std::vector<Row>& rows, const PrefixPolicy& policy, int begin, int depth,
                  std::set<Prefix>& found) {
  if (depth == policy.max_depth) return;
  const auto wanted =
      static_cast<std::size_t>((begin + policy.min_tokens + kPageTokens - 1) / kPageTokens);
  std::map<std::vector<int>, std::vector<Row>> classes;
  for (const Row& row : rows) {
    if (row.pages.size() < wanted) continue;
    const auto first = row.pages.begin();
    classes[{first, first + static_cast<std::ptrdiff_t>(wanted)}].push_back(row);
  }
  for (const auto& [pages, members] : classes) {
    if (static_cast<int>(members.size()) < policy.min_rows) continue;
    std::size_t end = members.front().pages.size();
    std::set<int> slots;
    for (const Row& row : members) {
      const auto differs = std::ranges::mismatch(members.front().pages, row.pages).in1;
      end = std::min(end, static_cast<std::size_t>(differs - members.front().pages.begin()));
      slots.insert(row.slot);
    }
    const int tokens = static_cast<int>(end) * kPageTokens;
    found.insert({slots, begin, tokens});
    find_naively(members, policy, tokens, depth + 1, found);
  }
}

std::set<Prefix> expected_prefixes(const std::vector<Row>& rows, const PrefixPolicy& policy) {
  std::set<Prefix> found;
  find_naively(rows, policy, 0, 0, found);
  std::int64_t spared = 0;
  for (const auto& [slots, begin, end] : found) {
    spared += (static_cast<std::int64_t>(slots.size()) - 1) * (end - begin);
  }
  return spared < policy.min_spared ? std::set<Prefix>() : found;
}

std::set<Prefix> prefixes_of(const BatchPlan& plan) {
  std::set<Prefix> found;
  for (const SharedPrefix& prefix : plan.prefixes) {
    std::set<int> slots;
    for (int r = prefix.first_row; r < prefix.first_row + prefix.num_rows; ++r) {
      slots.insert(plan.rows[static_cast<std::size_t>(r)].slot.value());
    }
    found.insert({slots, prefix.begin, prefix.end});
  }
  return found;
}

int depth_of(const BatchPlan& plan) {
  int deepest = 0;
  for (std::size_t p = 0; p < plan.prefixes.size(); ++p) {
    int depth = 1;
    for (int parent = plan.prefixes[p].parent; parent >= 0;
         parent = plan.prefixes[static_cast<std::size_t>(parent)].parent) {
      ++depth;
    }
    deepest = std::max(deepest, depth);
  }
  return deepest;
}

TEST(SharedPrefixes, AreThoseOfTheTreeThatTheRowsForm) {
  std::mt19937_64 random(kSeed);
  const auto number = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  for (int trial = 0; trial < 2000; ++trial) {
    // Pages are paths of a tree with few branches, so that rows in order are a walk over it.
    std::vector<std::vector<int>> paths(static_cast<std::size_t>(number(0, 20)));
    for (auto& path : paths) {
      for (int page = 0, length = number(0, 12); length > 0; --length) {
        path.push_back(page = page * 3 + number(0, number(0, 2)) + 1);
      }
    }
    std::ranges::sort(paths);
    BatchPlan plan;
    std::vector<Row> rows;
    std::vector<int> common;
    for (std::size_t i = 0; i < paths.size(); ++i) {
      plan.rows.push_back({.slot = SlotId(static_cast<int>(i)), .count = 1});
      // What is behind a path is a row's own.
      rows.push_back({static_cast<int>(i), paths[i]});
      rows.back().pages.push_back(-1 - static_cast<int>(i));
      const auto& before = paths[i == 0 ? 0 : i - 1];
      const auto same = std::ranges::mismatch(before, paths[i]).in2 - paths[i].begin();
      common.push_back(i == 0 ? 0 : static_cast<int>(same) * kPageTokens);
    }
    const PrefixPolicy policy{number(1, 3), number(2, 4), kPageTokens * number(1, 4),
                              number(0, 1) * number(0, 1000)};
    find_prefixes(common, policy, plan);
    ASSERT_EQ(prefixes_of(plan), expected_prefixes(rows, policy))
        << "trial " << trial << ", seed " << kSeed << "\n"
        << plan.to_string();
    ASSERT_LE(depth_of(plan), policy.max_depth);
  }
}

TEST(SharedPrefixes, AreNoneUnlessAskedForOrWorthIt) {
  BatchPlan plan;
  plan.rows.resize(3);
  const std::vector<int> common = {0, 64, 128};
  find_prefixes(common, {}, plan);
  EXPECT_TRUE(plan.prefixes.empty());
  find_prefixes(common, {.max_depth = 3, .min_tokens = 64, .min_spared = 193}, plan);
  EXPECT_TRUE(plan.prefixes.empty());
  EXPECT_EQ(plan.rows[2].prefix, -1);
  find_prefixes(common, {.max_depth = 3, .min_tokens = 64, .min_spared = 192}, plan);
  EXPECT_EQ(plan.prefixes, (std::vector<SharedPrefix>{{0, 3, 0, 64, -1}, {1, 2, 64, 128, 0}}));
  EXPECT_EQ(plan.rows[0].prefix, 0);
  EXPECT_EQ(plan.rows[2].prefix, 1);
}

struct Config {
  std::string name;
  int depth = 1;
  bool overcommit = false;
  int num_pages = 400;
};

std::ostream& operator<<(std::ostream& out, const Config& config) { return out << config.name; }

class SharedPrefixTraffic : public testing::TestWithParam<Config> {
 protected:
  static HarnessOptions options(const Config& config) {
    HarnessOptions options;
    options.num_pages = config.num_pages;
    options.page_tokens = kPageTokens;
    options.scheduler.max_num_seqs = 24;
    options.scheduler.max_num_batched_tokens = 200;
    options.scheduler.max_model_len = 400;
    options.scheduler.pipeline_depth = config.depth;
    options.scheduler.overcommit = config.overcommit;
    options.scheduler.prefixes = {.max_depth = 3, .min_tokens = kPageTokens};
    return options;
  }

  int number(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }

  // A path of a tree of prompts: system, document, question; now and then the very request that
  // somebody made before, which generates the same text beside it.
  std::unique_ptr<Request> request() {
    const std::uint64_t system = random_() % 2;
    const std::uint64_t document = system * 10 + random_() % 3;
    auto made = make_request(next_id_, 16 * number(1, 4), number(1, 60), 1000 + system);
    const auto add = [&](int tokens, std::uint64_t seed) {
      const auto part = make_request(0, tokens, 0, seed)->prompt;
      made->prompt.insert(made->prompt.end(), part.begin(), part.end());
    };
    if (number(0, 3) > 0) add(number(1, 80), 2000 + document);
    if (number(0, 2) > 0) add(number(1, 30), 3000 + document * 10 + random_() % 2);
    made->sampling.seed = random_() % 3;
    made->id = RequestId(next_id_++);
    return made;
  }

  // Those of sequences that have sampled before. (A piece of a prompt may have one token too.)
  std::vector<Row> decode_rows(const SchedulerHarness& harness) {
    for (const SlotStart& start : harness.last_plan().starts) sampled_.erase(start.slot.value());
    std::vector<Row> rows;
    for (const PlanRow& row : harness.last_plan().rows) {
      const bool decodes = sampled_.contains(row.slot.value());
      if (row.samples) sampled_.insert(row.slot.value());
      if (!decodes) continue;
      Row& added = rows.emplace_back();
      added.slot = row.slot.value();
      const auto pages = harness.runner.pages(row.slot);
      for (int i = 0; i < (row.start + 1) / kPageTokens; ++i) {
        added.pages.push_back(pages[static_cast<std::size_t>(i)].value());
      }
    }
    return rows;
  }

  std::mt19937_64 random_{kSeed};
  std::uint64_t next_id_ = 1;
  std::set<int> sampled_;  // slots
};

INSTANTIATE_TEST_SUITE_P(Traffic, SharedPrefixTraffic,
                         testing::Values(Config{"Depth1"}, Config{"Depth2", 2},
                                         Config{"Overcommit", 2, true, 90}),
                         [](const auto& param_info) { return param_info.param.name; });

// Under hits, forks, ends, cancels, equal texts that come to share their pages, and preemption.
TEST_P(SharedPrefixTraffic, AreWhatPageTablesHaveInCommon) {
  SchedulerHarness harness(options(GetParam()));
  int prefixes = 0;
  int deepest = 0;
  int generated = 0;  // prefixes that end in what was sampled
  for (int step = 0; step < 3000; ++step) {
    if (number(0, 3) == 0 && harness.scheduler.stats().num_waiting < 10) {
      harness.submit(request());
      if (number(0, 5) == 0) {
        auto twin = request();
        auto again = std::make_unique<Request>();
        again->id = RequestId(next_id_++);
        again->prompt = twin->prompt;
        again->max_new_tokens = twin->max_new_tokens;
        again->sampling.seed = twin->sampling.seed;
        harness.submit(std::move(again));
        harness.submit(std::move(twin));
      }
    }
    if (number(0, 99) == 0) harness.cancel(RequestId(1 + random_() % next_id_));
    const std::uint64_t before = harness.scheduler.stats().steps;
    harness.turn();
    if (harness.scheduler.stats().steps == before) continue;
    const BatchPlan& plan = harness.last_plan();
    const std::vector<Row> rows = decode_rows(harness);
    const PrefixPolicy policy = options(GetParam()).scheduler.prefixes;
    ASSERT_EQ(prefixes_of(plan), expected_prefixes(rows, policy))
        << "step " << step << ", seed " << kSeed << "\n"
        << plan.to_string();
    prefixes += static_cast<int>(plan.prefixes.size());
    deepest = std::max(deepest, depth_of(plan));
    for (const SharedPrefix& prefix : plan.prefixes) {
      const SlotId slot = plan.rows[static_cast<std::size_t>(prefix.first_row)].slot;
      if (prefix.end > harness.runner.prompt_tokens(slot)) ++generated;
    }
  }
  harness.run();
  EXPECT_GT(prefixes, 3000);
  EXPECT_EQ(deepest, 3);
  EXPECT_GT(generated, 0);
  EXPECT_EQ(harness.scheduler.stats().preemptions > 0, GetParam().overcommit);
}

}  // namespace
}  // namespace latentd
