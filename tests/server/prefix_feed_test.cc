#include "server/prefix_feed.h"

#include <gtest/gtest.h>

#include <vector>

#include "server/grpc/kv_events.h"

namespace latentd {
namespace {

constexpr int kPageTokens = 2;

PrefixChanges stored(std::uint64_t hash, std::optional<std::uint64_t> parent,
                     std::uint64_t salt = 0) {
  PrefixChanges changes;
  changes.store(salt, hash, parent, std::vector<TokenId>(kPageTokens, static_cast<TokenId>(hash)));
  return changes;
}

PrefixChanges removed(std::uint64_t hash) {
  PrefixChanges changes;
  changes.remove(0, hash);
  return changes;
}

// A feed whose engine and thread are the test's.
class PrefixFeedTest : public ::testing::Test {
 protected:
  PrefixFeedTest() {
    feed_.set_engine([this](PrefixSink sink) {
      sink_ = std::move(sink);
      ++times_watched_;
    });
  }

  // What the engine says, numbered.
  void tell(PrefixChanges changes) {
    sink_(std::move(changes));
    run();
  }
  void tell_all(std::vector<std::uint64_t> hashes) {
    PrefixChanges all;
    all.whole = true;
    for (const std::uint64_t hash : hashes) {
      const std::vector<TokenId> page(kPageTokens, static_cast<TokenId>(hash));
      all.store(0, hash, std::nullopt, page);
    }
    tell(std::move(all));
  }
  void run() {
    for (auto& task : std::exchange(tasks_, {})) task();
  }
  PrefixFeed::Place subscribe(std::uint64_t last = 0) {
    auto place = feed_.subscribe(last, [this] { ++wakes_; });
    EXPECT_TRUE(place.ok()) << place.status().to_string();
    return *place;
  }
  // The numbers of the batches that are there for `place`.
  std::vector<std::uint64_t> numbers(PrefixFeed::Place& place) {
    std::vector<std::uint64_t> out;
    while (true) {
      auto batch = feed_.next(place);
      EXPECT_TRUE(batch.ok()) << batch.status().to_string();
      if (!batch.ok() || *batch == nullptr) return out;
      out.push_back((*batch)->sequence);
    }
  }

  std::vector<std::function<void()>> tasks_;
  PrefixSink sink_;
  int times_watched_ = 0;
  int wakes_ = 0;
  PrefixFeed feed_{[this](std::function<void()> task) { tasks_.push_back(std::move(task)); }, 4000};
};

using Numbers = std::vector<std::uint64_t>;

TEST_F(PrefixFeedTest, AsksTheEngineOnceAndNumbersWhatItTellsWithoutGaps) {
  EXPECT_EQ(times_watched_, 0);
  PrefixFeed::Place first = subscribe();
  PrefixFeed::Place second = subscribe();
  EXPECT_EQ(times_watched_, 1);
  EXPECT_EQ(numbers(first), Numbers{});
  tell_all({1});
  EXPECT_EQ(wakes_, 2);
  tell(stored(2, 1));
  tell(removed(2));
  EXPECT_EQ(numbers(first), (Numbers{1, 2, 3}));
  EXPECT_EQ(numbers(second), (Numbers{1, 2, 3}));
  PrefixFeed::Place late = subscribe();  // from the same picture on
  EXPECT_EQ(numbers(late), (Numbers{1, 2, 3}));
  EXPECT_EQ(times_watched_, 1);
}

TEST_F(PrefixFeedTest, GoesOnWhereASubscriberWas) {
  PrefixFeed::Place first = subscribe();
  tell_all({1});
  tell(stored(2, 1));
  EXPECT_EQ(numbers(first), (Numbers{1, 2}));
  feed_.unsubscribe(first);
  tell(stored(3, 2));
  PrefixFeed::Place again = subscribe(2);
  EXPECT_EQ(numbers(again), Numbers{3});
  EXPECT_EQ(feed_.subscribe(4, [] {}).status().code(), StatusCode::kOutOfRange);
}

TEST_F(PrefixFeedTest, TellsWhoWasTooSlowThatItHasLostSomething) {
  PrefixFeed::Place slow = subscribe();
  PrefixFeed::Place fast = subscribe();
  tell_all({1});
  EXPECT_EQ(numbers(fast), Numbers{1});
  for (std::uint64_t hash = 2; hash < 40; ++hash) {
    tell(stored(hash, hash - 1));
    EXPECT_EQ(numbers(fast), Numbers{hash});
  }
  // It has had nothing: it begins with a picture that is not there any more.
  EXPECT_EQ(times_watched_, 1);
  EXPECT_EQ(numbers(slow), Numbers{});
  EXPECT_EQ(times_watched_, 2);
  tell_all({1, 2});
  EXPECT_EQ(numbers(slow), Numbers{40});
  EXPECT_EQ(numbers(fast), Numbers{40});
  // It has had something: it cannot go on.
  for (std::uint64_t hash = 41; hash < 80; ++hash) tell(stored(hash, hash - 1));
  EXPECT_TRUE(feed_.has_lost(slow));
  EXPECT_EQ(feed_.next(slow).status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(feed_.subscribe(40, [] {}).status().code(), StatusCode::kOutOfRange);
}

TEST_F(PrefixFeedTest, DropsWhatNobodyCouldNumberAndSaysSo) {
  PrefixFeed::Place place = subscribe();
  tell_all({1});
  EXPECT_EQ(numbers(place), Numbers{1});
  for (std::uint64_t hash = 2; hash < 100; ++hash) sink_(stored(hash, hash - 1));
  EXPECT_EQ(tasks_.size(), 1U);  // one task for all of them
  run();
  EXPECT_EQ(feed_.next(place).status().code(), StatusCode::kDataLoss);
  EXPECT_FALSE(sink_) << "the engine tells no more";
  PrefixFeed::Place again = subscribe();
  tell_all({7});
  EXPECT_EQ(numbers(again).size(), 1U);
}

TEST_F(PrefixFeedTest, StopsTheEngineSomeTimeAfterTheLastHasLeft) {
  PrefixFeed::Place place = subscribe();
  tell_all({1});
  feed_.unsubscribe(place);
  for (std::uint64_t hash = 2; sink_ && hash < 1000; ++hash) tell(stored(hash, hash - 1));
  EXPECT_FALSE(sink_);
  EXPECT_EQ(feed_.subscribe(3, [] {}).status().code(), StatusCode::kOutOfRange);
  place = subscribe();
  ASSERT_TRUE(sink_);
  tell_all({2});
  EXPECT_EQ(numbers(place).size(), 1U);
}

TEST_F(PrefixFeedTest, BoundsItsSubscribersAndEndsThemAll) {
  for (std::size_t i = 0; i < PrefixFeed::kMaxSubscribers; ++i) subscribe();
  EXPECT_EQ(feed_.subscribe(0, [] {}).status().code(), StatusCode::kResourceExhausted);
  feed_.close();
  EXPECT_EQ(wakes_, static_cast<int>(PrefixFeed::kMaxSubscribers));
  EXPECT_EQ(feed_.subscribe(0, [] {}).status().code(), StatusCode::kUnavailable);
}

TEST_F(PrefixFeedTest, CutsALargePictureIntoPieces) {
  PrefixFeed::Place place = subscribe();
  std::vector<std::uint64_t> hashes;
  for (std::uint64_t hash = 1; hash <= 2 * kPictureChunkPages + 1; ++hash) hashes.push_back(hash);
  tell_all(hashes);
  std::uint64_t seen = 0;
  for (int chunk = 0; chunk < 3; ++chunk) {
    const auto batch = feed_.next(place);
    ASSERT_TRUE(batch.ok() && *batch != nullptr);
    const auto message = to_kv_event_batch(**batch, 0, kPageTokens);
    EXPECT_EQ(message.sequence_number(), static_cast<std::uint64_t>(chunk) + 1);
    EXPECT_EQ(message.snapshot().index(), static_cast<std::uint32_t>(chunk));
    EXPECT_EQ(message.snapshot().count(), 3U);
    EXPECT_EQ(message.snapshot().blocks(), hashes.size());
    EXPECT_EQ(message.events(0).has_cleared(), chunk == 0);
    for (const auto& event : message.events()) {
      EXPECT_EQ(event.event_id(), 0U);
      for (const auto& block : event.stored().blocks()) {
        EXPECT_EQ(block.block_hash(), static_cast<std::int64_t>(++seen));
        EXPECT_EQ(block.token_ids(1), seen);
      }
    }
  }
  EXPECT_EQ(seen, hashes.size());
}

TEST_F(PrefixFeedTest, ShowsASubscriberThePagesOfItsOwnSaltAlone) {
  PrefixBatch batch;
  batch.sequence = 9;
  batch.first_event_id = 100;
  const auto page = [](TokenId token) { return std::vector<TokenId>(kPageTokens, token); };
  batch.news.store(1, 11, std::nullopt, page(1));
  batch.news.store(1, 12, 11, page(2));
  batch.news.store(2, 21, std::nullopt, page(3));
  batch.news.store(1, 13, 11, page(4));  // not behind the one before it
  batch.news.remove(1, 12);
  batch.news.remove(2, 21);
  batch.news.remove(1, 13);
  const auto mine = to_kv_event_batch(batch, 1, kPageTokens);
  ASSERT_EQ(mine.events_size(), 3);
  EXPECT_EQ(mine.sequence_number(), 9U);
  const auto& run = mine.events(0).stored();
  ASSERT_EQ(run.blocks_size(), 2);
  EXPECT_FALSE(run.has_parent_block_hash());
  EXPECT_EQ(run.blocks(1).block_hash(), 12);
  EXPECT_EQ(run.blocks(1).token_ids(0), 2U);
  EXPECT_EQ(run.blocks(1).block_size(), kPageTokens);
  EXPECT_EQ(mine.events(1).stored().parent_block_hash(), 11);
  EXPECT_EQ(mine.events(1).event_id(), 103U);
  EXPECT_EQ(mine.events(2).removed().block_hashes_size(), 2);
  EXPECT_EQ(to_kv_event_batch(batch, 2, kPageTokens).events_size(), 2);
  const auto other = to_kv_event_batch(batch, 3, kPageTokens);
  EXPECT_EQ(other.sequence_number(), 9U);
  EXPECT_EQ(other.events_size(), 0);
}

}  // namespace
}  // namespace latentd
