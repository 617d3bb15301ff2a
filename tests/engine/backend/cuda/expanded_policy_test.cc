// How expanded attention divides a step: pure functions, tested without a device.
#include "engine/backend/cuda/expanded_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <utility>
#include <vector>

namespace latentd::cuda {
namespace {

std::vector<ExpandedPass> passes_of(const std::vector<RowView>& rows, std::int32_t most_keys) {
  std::vector<ExpandedPass> passes;
  ExpandedCursor cursor;
  ExpandedPass pass;
  while (next_pass(rows, most_keys, cursor, pass)) passes.push_back(pass);
  return passes;
}

TEST(ExpandedPolicy, KeysOfAPassHaveABoundUnlessTheyWouldBeFew) {
  EXPECT_EQ(pass_keys(16, 128, 128), 32768);
  EXPECT_EQ(pass_keys(40, 128, 128), 12800);
  EXPECT_EQ(pass_keys(128, 128, 128), kFewestPassKeys);
  EXPECT_LE(pass_keys(1, 16, 16), 1 << 16);
}

TEST(ExpandedPolicy, RowsThatFitShareAPass) {
  const std::vector<RowView> rows = {{3, 0, 100, 0}, {1, 100, 0, 50}, {5, 100, 130, 200}};
  const auto passes = passes_of(rows, 4096);
  ASSERT_EQ(passes.size(), 1U);
  const ExpandedPass& pass = passes[0];
  ASSERT_EQ(pass.num_segments, 2) << "a row without tokens has none";
  EXPECT_EQ(pass.num_keys, 512);
  EXPECT_EQ(pass.num_tiles, 3);
  EXPECT_EQ(pass.segments[0].slot, 3);
  EXPECT_EQ(pass.segments[1].slot, 5);
  EXPECT_EQ(pass.segments[1].offset, 128);
  EXPECT_EQ(pass.segments[1].num_keys, 330);
  EXPECT_EQ(pass.segments[1].first_tile, 1);
}

TEST(ExpandedPolicy, ALongRowIsCutAndItsRestSharesAPass) {
  const std::vector<RowView> rows = {{0, 0, 10, 0}, {1, 10, 300, 9000}, {2, 310, 20, 0}};
  const auto passes = passes_of(rows, 4096);
  ASSERT_EQ(passes.size(), 4U);
  EXPECT_EQ(passes[1].segments[0].first_key, 0);
  EXPECT_EQ(passes[1].segments[0].num_keys, 4096);
  EXPECT_EQ(passes[2].segments[0].first_key, 4096);
  EXPECT_EQ(passes[3].segments[0].end_key(), 9300);
  ASSERT_EQ(passes[3].num_segments, 2);
  EXPECT_EQ(passes[3].segments[1].slot, 2);
}

// Whatever the rows: every key of every row once and in order, segments disjoint and inside the
// pass, and at most one row unfinished between two passes.
TEST(ExpandedPolicy, EveryKeyOfEveryRowIsExpandedOnceInOrder) {
  constexpr unsigned kSeed = 20261124;
  std::mt19937 random(kSeed);
  for (int trial = 0; trial < 500; ++trial) {
    std::vector<RowView> rows;
    std::int32_t token = 0;
    const auto count = static_cast<std::int32_t>(random() % 150);
    for (std::int32_t i = 0; i < count; ++i) {
      const auto tokens = static_cast<std::int32_t>(random() % 4 == 0 ? 0 : random() % 700);
      const auto start =
          static_cast<std::int32_t>(random() % 8 == 0 ? random() % 20000 : random() % 300);
      rows.push_back({i, token, tokens, start});
      token += tokens;
    }
    std::vector<std::int32_t> expanded(rows.size(), 0);
    const std::int32_t most = 4096 + 512 * static_cast<std::int32_t>(random() % 9);
    std::int32_t unfinished = -1;
    for (const ExpandedPass& pass : passes_of(rows, most)) {
      ASSERT_LE(pass.num_keys, most) << "seed " << kSeed << ", trial " << trial;
      ASSERT_LE(pass.num_segments, kMostSegments);
      std::int32_t end = 0;
      std::int32_t tiles = 0;
      for (std::int32_t s = 0; s < pass.num_segments; ++s) {
        const ExpandedSegment& segment = pass.segments[s];
        const auto slot = static_cast<std::size_t>(segment.slot);
        ASSERT_TRUE(unfinished < 0 || unfinished == segment.slot);
        ASSERT_EQ(segment.first_key, expanded[slot]);
        ASSERT_GE(segment.offset, end);
        ASSERT_EQ(segment.offset % kExpandedKeyBlock, 0);
        ASSERT_EQ(segment.first_tile, tiles);
        expanded[slot] = segment.end_key();
        end = segment.offset + round_up(segment.num_keys, kExpandedKeyBlock);
        tiles += segment.num_tiles();
        const bool cut = segment.end_key() < rows[slot].start + rows[slot].count;
        ASSERT_TRUE(!cut || segment.num_keys % kExpandedKeyBlock == 0);
        unfinished = cut ? segment.slot : -1;
      }
      ASSERT_LE(end, pass.num_keys);
      ASSERT_EQ(tiles, pass.num_tiles);
    }
    for (std::size_t i = 0; i < rows.size(); ++i) {
      ASSERT_EQ(expanded[i], rows[i].count == 0 ? 0 : rows[i].start + rows[i].count);
    }
  }
}

TEST(ExpandedPolicy, EveryTileAndHeadIsSomeBlocksWork) {
  for (const auto& [tiles, heads] : {std::pair{1, 1}, {7, 20}, {33, 16}, {16, 3}, {5, 128}}) {
    std::set<std::pair<std::int32_t, std::int32_t>> seen;
    for (std::int32_t block = 0; block < tiles * heads; ++block) {
      const ExpandedWork work = work_of_block(block, tiles, heads);
      EXPECT_TRUE(work.tile >= 0 && work.tile < tiles && work.head >= 0 && work.head < heads);
      seen.emplace(work.tile, work.head);
    }
    EXPECT_EQ(seen.size(), static_cast<std::size_t>(tiles * heads));
    EXPECT_EQ(work_of_block(0, tiles, heads).tile, tiles - 1) << "the longest first";
  }
}

// Whatever the rows of a step, none of its passes needs more scratch than was reserved.
TEST(ExpandedPolicy, NoStepNeedsMoreScratchThanTheLargestIsReservedFor) {
  constexpr unsigned kSeed = 20261130;
  std::mt19937 random(kSeed);
  MlaGeometry g;
  g.nope_dim = 128;
  g.rope_dim = 64;
  g.v_dim = 128;
  g.kv_lora_rank = 512;
  bool carried = false;
  for (int trial = 0; trial < 400; ++trial) {
    g.num_heads = trial % 2 == 0 ? 16 : 128;
    const auto max_positions = static_cast<std::int32_t>(1 + random() % 70000);
    const auto max_tokens = static_cast<std::int32_t>(1 + random() % 4096);
    const ExpandedScratch reserved = most_expanded_scratch(g, max_tokens, max_positions);
    std::vector<RowView> rows;
    std::int32_t token = 0;
    while (token < max_tokens && rows.size() < 100) {
      const auto most = static_cast<unsigned>(std::min(max_tokens - token, max_positions));
      const auto count = static_cast<std::int32_t>(1 + random() % most);
      const auto start =
          static_cast<std::int32_t>(random() % static_cast<unsigned>(max_positions - count + 1));
      rows.push_back({static_cast<std::int32_t>(rows.size()), token, count, start});
      token += count;
    }
    for (const ExpandedPass& pass : passes_of(rows, pass_keys(g.num_heads, 128, 128))) {
      const ExpandedScratch needed = expanded_scratch(g, pass.num_keys, carried_tiles(pass));
      EXPECT_LE(needed.latents, reserved.latents);
      EXPECT_LE(needed.kv, reserved.kv);
      EXPECT_LE(needed.state, reserved.state);
      carried = carried || needed.state > 0;
    }
  }
  EXPECT_TRUE(carried) << "no row was cut: the trial shows nothing";
}

TEST(ExpandedPolicy, TheMoreIsCachedTheMoreTokensAreWorthExpanding) {
  constexpr ExpansionPolicy few_heads = expansion_on_cuda(16);
  EXPECT_FALSE(few_heads.expands(15, 0));
  EXPECT_TRUE(few_heads.expands(16, 0));
  EXPECT_TRUE(few_heads.expands(16, 339));
  EXPECT_FALSE(few_heads.expands(101, 2048));
  EXPECT_TRUE(few_heads.expands(102, 2048));
  EXPECT_FALSE(few_heads.expands(287, 32768));
  EXPECT_TRUE(few_heads.expands(288, 1 << 20));
  constexpr ExpansionPolicy many_heads = expansion_on_cuda(128);
  EXPECT_FALSE(many_heads.expands(175, 32768));
  EXPECT_TRUE(many_heads.expands(176, 32768));
}

TEST(ExpansionPolicy, OfOneNumberLooksAtNoCache) {
  EXPECT_FALSE(ExpansionPolicy::from(8).expands(7, 0));
  EXPECT_TRUE(ExpansionPolicy::from(8).expands(8, 1 << 20));
  EXPECT_FALSE(ExpansionPolicy::from(0).any());
  EXPECT_FALSE(ExpansionPolicy{}.expands(1 << 20, 0));
}

}  // namespace
}  // namespace latentd::cuda
