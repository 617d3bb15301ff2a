#include "kvcache/block_manager.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace latentd {
namespace {

constexpr int kPageTokens = 4;

// A client of the manager: tokens and the hashes of their full pages.
struct Text {
  explicit Text(std::vector<TokenId> all, std::uint64_t its_salt = 0)
      : tokens(std::move(all)), salt(its_salt) {
    std::uint64_t hash = salt;
    for (std::size_t first = 0; first + kPageTokens <= tokens.size(); first += kPageTokens) {
      hash = prefix_hash(hash, std::span(tokens).subspan(first, kPageTokens));
      hashes.push_back(hash);
    }
  }
  static Text counting(int count, TokenId first = 0) {
    std::vector<TokenId> tokens(static_cast<std::size_t>(count));
    std::iota(tokens.begin(), tokens.end(), first);
    return Text(tokens);
  }
  TokenRun run() const { return {tokens, {}}; }
  int pages() const { return static_cast<int>(hashes.size()); }

  std::vector<TokenId> tokens;
  std::uint64_t salt;
  std::vector<std::uint64_t> hashes;
};

PrefixHit match(const BlockManager& blocks, const Text& text, int unit_pages = 1) {
  return blocks.match(text.salt, text.run(), text.hashes, text.pages(), unit_pages);
}

// Opens with whatever hit there is, takes all of the promise and publishes every full page.
void compute(BlockManager& blocks, SequencePages& sequence, const Text& text, int promise) {
  blocks.open(sequence, text.salt, match(blocks, text), promise);
  while (sequence.held() < promise) blocks.take(sequence);
  blocks.publish(sequence, text.run(), text.hashes, std::min(text.pages(), promise));
  blocks.check_invariants();
}

TEST(BlockManager, PromisesAreCountsAndTakeNoPages) {
  BlockManager blocks(10, kPageTokens);
  SequencePages sequence;
  blocks.open(sequence, 0, {}, 7);
  EXPECT_EQ(blocks.available(), 3);
  EXPECT_EQ(blocks.stats(), (BlockManagerStats{.total = 10, .free = 10, .promised = 7}));
  EXPECT_DOUBLE_EQ(blocks.stats().usage(), 0.7);
  EXPECT_TRUE(blocks.fits(3, {}));
  EXPECT_FALSE(blocks.fits(4, {}));
  blocks.take(sequence);
  EXPECT_EQ(blocks.available(), 3) << "a page that is taken was promised before";
  EXPECT_EQ(blocks.stats(), (BlockManagerStats{.total = 10, .free = 9, .used = 1, .promised = 6}));
  blocks.release(sequence);
  EXPECT_EQ(blocks.available(), 10);
}

TEST(BlockManager, SharesFullPagesOfAnEqualPrefix) {
  BlockManager blocks(10, kPageTokens);
  SequencePages first;
  SequencePages second;
  const Text text = Text::counting(10);
  compute(blocks, first, text, 3);
  EXPECT_EQ(first.published(), 2) << "the third page is not full";
  const PrefixHit hit = match(blocks, text);
  EXPECT_EQ(hit.pages, 2);
  EXPECT_EQ(hit.newly_pinned, 0) << "they are in use";
  blocks.open(second, 0, hit, 3);
  EXPECT_EQ(second.pages()[0], first.pages()[0]);
  EXPECT_EQ(second.pages()[1], first.pages()[1]);
  EXPECT_EQ(blocks.stats().used, 3);
  EXPECT_EQ(blocks.stats().promised, 1);
  blocks.release(first);
  blocks.check_invariants();
  blocks.release(second);
  EXPECT_EQ(blocks.stats(), (BlockManagerStats{.total = 10, .free = 8, .cached = 2}));
}

TEST(BlockManager, CountsPagesNewlyPinnedByAHitAgainstWhatIsAvailable) {
  BlockManager blocks(6, kPageTokens);
  const Text text = Text::counting(16);
  SequencePages sequence;
  compute(blocks, sequence, text, 4);
  blocks.release(sequence);
  ASSERT_EQ(blocks.stats().cached, 4);

  SequencePages other;
  blocks.open(other, 0, {}, 3);  // available: 2 free + 4 cached - 3
  ASSERT_EQ(blocks.available(), 3);
  const PrefixHit hit = match(blocks, text);
  EXPECT_EQ(hit.newly_pinned, 4);
  // One page beyond the hit, but pinning the hit takes 4 of the 6 that the other one counts on.
  EXPECT_FALSE(blocks.fits(5, hit));
  EXPECT_FALSE(blocks.fits(4, hit));
  PrefixHit shorter = blocks.match(0, text.run(), text.hashes, 3, 1);
  EXPECT_TRUE(blocks.fits(3, shorter));
  EXPECT_FALSE(blocks.fits(4, shorter));
  blocks.open(sequence, 0, shorter, 3);
  EXPECT_EQ(blocks.available(), 0);
  for (int i = 0; i < 3; ++i) blocks.take(other);  // never runs out
  blocks.check_invariants();
  blocks.release(other);
  blocks.release(sequence);
}

TEST(BlockManager, ServesThePrefixCacheFromPromisedSpaceUntilItIsWritten) {
  BlockManager blocks(4, kPageTokens);
  const Text text = Text::counting(12);
  SequencePages sequence;
  compute(blocks, sequence, text, 3);
  blocks.release(sequence);
  SequencePages other;
  blocks.open(other, 0, {}, 4);
  blocks.take(other);
  EXPECT_EQ(match(blocks, text).pages, 3) << "all is promised, nothing is lost yet";
  blocks.take(other);
  EXPECT_EQ(match(blocks, text).pages, 2) << "the leaf goes first";
  EXPECT_EQ(blocks.stats().evictions, 1U);
  blocks.release(other);
}

TEST(BlockManager, EvictsLeastRecentlyUsedLeafFirst) {
  BlockManager blocks(6, kPageTokens);
  const Text early = Text::counting(8, 0);
  const Text late = Text::counting(8, 100);
  SequencePages sequence;
  compute(blocks, sequence, early, 2);
  blocks.release(sequence);
  compute(blocks, sequence, late, 2);
  blocks.release(sequence);
  compute(blocks, sequence, early, 2);  // used again: now the late one is older
  blocks.release(sequence);

  SequencePages hungry;
  blocks.open(hungry, 0, {}, 6);
  for (int i = 0; i < 3; ++i) blocks.take(hungry);
  EXPECT_EQ(match(blocks, late).pages, 1);
  EXPECT_EQ(match(blocks, early).pages, 2);
  blocks.take(hungry);
  EXPECT_EQ(match(blocks, late).pages, 0);
  EXPECT_EQ(match(blocks, early).pages, 2);
  blocks.take(hungry);
  EXPECT_EQ(match(blocks, early).pages, 1);
  blocks.release(hungry);
}

TEST(BlockManager, RoundsAHitDownToItsUnit) {
  BlockManager blocks(10, kPageTokens);
  const Text text = Text::counting(20);
  SequencePages sequence;
  compute(blocks, sequence, text, 5);
  blocks.release(sequence);
  EXPECT_EQ(match(blocks, text, 1).pages, 5);
  EXPECT_EQ(match(blocks, text, 2).pages, 4);
  EXPECT_EQ(match(blocks, text, 2).newly_pinned, 4);
  EXPECT_EQ(match(blocks, text, 3).pages, 3);
  EXPECT_EQ(match(blocks, text, 6).pages, 0);
}

TEST(BlockManager, NeverSharesAcrossSalts) {
  BlockManager blocks(10, kPageTokens);
  const Text ours({1, 2, 3, 4}, 1);
  const Text theirs({1, 2, 3, 4}, 2);
  SequencePages sequence;
  compute(blocks, sequence, ours, 1);
  EXPECT_EQ(match(blocks, ours).pages, 1);
  EXPECT_EQ(match(blocks, theirs).pages, 0);
  blocks.release(sequence);
}

TEST(BlockManager, ExchangesAPageThatWasComputedTwiceForTheOneInTheTree) {
  BlockManager blocks(10, kPageTokens);
  const Text text = Text::counting(12);
  SequencePages first;
  SequencePages second;
  blocks.open(first, 0, {}, 3);
  blocks.open(second, 0, {}, 3);
  for (int i = 0; i < 3; ++i) {
    blocks.take(first);
    blocks.take(second);
  }
  EXPECT_EQ(blocks.publish(first, text.run(), text.hashes, 2), 3) << "nothing was exchanged";
  EXPECT_EQ(blocks.publish(second, text.run(), text.hashes, 3), 0);
  blocks.check_invariants();
  EXPECT_EQ(second.pages()[0], first.pages()[0]);
  EXPECT_EQ(second.pages()[1], first.pages()[1]);
  EXPECT_EQ(blocks.stats().used, 4);
  // The second went on below the shared ones; now the first meets its third page.
  EXPECT_EQ(blocks.publish(first, text.run(), text.hashes, 3), 2);
  EXPECT_EQ(blocks.stats().used, 3);
  blocks.check_invariants();
  blocks.release(first);
  blocks.release(second);
  EXPECT_EQ(match(blocks, text).pages, 3);
}

TEST(BlockManager, ExchangingForACachedPageLeavesWhatIsAvailableAsItWas) {
  BlockManager blocks(4, kPageTokens);
  const Text text = Text::counting(4);
  SequencePages sequence;
  compute(blocks, sequence, text, 1);
  blocks.release(sequence);
  SequencePages second;
  blocks.open(second, 0, {}, 4);  // everything is promised; takes no hit
  blocks.take(second);
  ASSERT_EQ(blocks.available(), 0);
  EXPECT_EQ(blocks.publish(second, text.run(), text.hashes, 1), 0);
  EXPECT_EQ(blocks.available(), 0);
  blocks.check_invariants();
  for (int i = 0; i < 3; ++i) blocks.take(second);
  blocks.release(second);
}

TEST(BlockManager, ForgetsPagesThatWereNeverPublished) {
  BlockManager blocks(4, kPageTokens);
  const Text text = Text::counting(8);
  SequencePages sequence;
  blocks.open(sequence, 0, {}, 2);
  blocks.take(sequence);
  blocks.take(sequence);
  blocks.publish(sequence, text.run(), text.hashes, 1);
  blocks.release(sequence);
  EXPECT_EQ(match(blocks, text).pages, 1);
  EXPECT_EQ(blocks.stats(), (BlockManagerStats{.total = 4, .free = 3, .cached = 1}));
}

TEST(BlockManager, ExtendsAPromiseOnlyAsFarAsPagesAreAvailable) {
  BlockManager blocks(4, kPageTokens);
  SequencePages first;
  SequencePages second;
  blocks.open(first, 0, {}, 2);
  blocks.open(second, 0, {}, 1);
  EXPECT_TRUE(blocks.try_extend(first, 1));
  EXPECT_EQ(first.promised(), 3);
  EXPECT_FALSE(blocks.try_extend(second, 1));
  EXPECT_EQ(second.promised(), 1);
  blocks.release(first);
  EXPECT_TRUE(blocks.try_extend(second, 3));
  blocks.check_invariants();
  blocks.release(second);
}

TEST(BlockManager, SaysHowManyPagesTokensTake) {
  const BlockManager blocks(4, kPageTokens);
  EXPECT_EQ(blocks.num_pages(), 4);
  EXPECT_EQ(blocks.page_tokens(), kPageTokens);
  EXPECT_EQ(blocks.pages_for_tokens(0), 0);
  EXPECT_EQ(blocks.pages_for_tokens(4), 1);
  EXPECT_EQ(blocks.pages_for_tokens(5), 2);
  EXPECT_DOUBLE_EQ(BlockManagerStats{}.usage(), 0.0);
}

TEST(BlockManagerDeathTest, EndsTheProcessOnMisuse) {
  BlockManager blocks(4, kPageTokens);
  SequencePages sequence;
  EXPECT_DEATH(blocks.release(sequence), "is closed");
  EXPECT_DEATH((void)blocks.try_extend(sequence, 1), "is closed");
  EXPECT_DEATH(blocks.take(sequence), "promised pages are held");
  EXPECT_DEATH(blocks.open(sequence, 0, {}, 5), "do not fit");
  blocks.open(sequence, 0, {}, 1);
  EXPECT_DEATH(blocks.open(sequence, 0, {}, 1), "is open");
  const Text text = Text::counting(4);
  EXPECT_DEATH(blocks.publish(sequence, text.run(), text.hashes, 1), "1 pages of 0 are full");
  SequencePages second;
  EXPECT_DEATH(blocks.open(second, 0, PrefixHit{2, 0, std::nullopt}, 1), "a promise of 1");
  EXPECT_DEATH(blocks.open(second, 0, PrefixHit{1, 0, std::nullopt}, 1), "ends at page 0");
  EXPECT_DEATH(
      {
        BlockManager other(1, kPageTokens);
        SequencePages leaked;
        other.open(leaked, 0, {}, 1);
      },
      "was destroyed with");
  blocks.release(sequence);
}

// The pages of one state, summed over the map.
int pages_of(const std::vector<PageRun>& runs, PageState state) {
  int pages = 0;
  for (const PageRun& run : runs) pages += run.state == state ? run.count : 0;
  return pages;
}

TEST(BlockManager, MapsEveryPageByItsState) {
  BlockManager blocks(10, kPageTokens);
  std::vector<PageRun> runs = {{PageState::kShared, 3}};
  blocks.map_pages(runs);
  EXPECT_EQ(runs, (std::vector<PageRun>{{PageState::kFree, 10}}));

  const Text text = Text::counting(2 * kPageTokens);
  SequencePages one;
  SequencePages two;
  SequencePages other;
  compute(blocks, one, text, 3);
  compute(blocks, two, text, 3);
  compute(blocks, other, Text::counting(kPageTokens, 100), 1);
  blocks.map_pages(runs);
  EXPECT_EQ(pages_of(runs, PageState::kShared), 2) << "both prompts, once";
  EXPECT_EQ(pages_of(runs, PageState::kPrivate), 3) << "a page of each one's own, and the other's";
  EXPECT_EQ(pages_of(runs, PageState::kFree), 5);

  blocks.release(two);
  blocks.release(other);
  blocks.map_pages(runs);
  EXPECT_EQ(pages_of(runs, PageState::kShared), 0);
  EXPECT_EQ(pages_of(runs, PageState::kPrivate), 3);
  EXPECT_EQ(pages_of(runs, PageState::kCached), 1);
  for (std::size_t i = 1; i < runs.size(); ++i) EXPECT_NE(runs[i].state, runs[i - 1].state);
  const BlockManagerStats stats = blocks.stats();
  EXPECT_EQ(pages_of(runs, PageState::kFree), stats.free);
  EXPECT_EQ(pages_of(runs, PageState::kCached), stats.cached);
  blocks.release(one);
}

}  // namespace
}  // namespace latentd
