// A million random operations on the block manager beside a naive model of the same rules: maps of
// whole prefixes, reference counts counted anew, the least recently used leaf found by looking at
// all.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "kvcache/block_manager.h"

namespace latentd {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
constexpr int kOperations = 60'000;
#else
constexpr int kOperations = 1'000'000;
#endif
constexpr int kPages = 24;
constexpr int kPageTokens = 2;
constexpr int kSequences = 6;
constexpr int kMaxPages = 9;

// A prefix is a string: the salt, then a letter a token.
using Prefix = std::string;

struct NaiveSequence {
  bool open = false;
  std::string tokens;  // the salt first
  int promised = 0;
  int held = 0;
  int published = 0;

  Prefix prefix(int pages) const {
    return tokens.substr(0, 1 + static_cast<std::size_t>(pages * kPageTokens));
  }
};

class NaiveModel {
 public:
  std::array<NaiveSequence, kSequences> sequences;
  std::map<Prefix, long> tree;  // published prefixes -> when they were last let go

  int references(const Prefix& prefix) const {
    return static_cast<int>(std::ranges::count_if(sequences, [&](const NaiveSequence& each) {
      return each.open && static_cast<int>(prefix.size()) <= 1 + each.published * kPageTokens &&
             each.tokens.starts_with(prefix);
    }));
  }
  int cached() const {
    return static_cast<int>(
        std::ranges::count_if(tree, [&](const auto& node) { return references(node.first) == 0; }));
  }
  int unpublished() const {
    int count = 0;
    for (const NaiveSequence& each : sequences) {
      if (each.open) count += each.held - each.published;
    }
    return count;
  }
  int free() const { return kPages - static_cast<int>(tree.size()) - unpublished(); }
  int promised() const {
    int count = 0;
    for (const NaiveSequence& each : sequences) {
      if (each.open) count += each.promised - each.held;
    }
    return count;
  }
  int available() const { return free() + cached() - promised(); }

  int match(const NaiveSequence& sequence) const {
    int pages = 0;
    while (1 + (pages + 1) * kPageTokens <= static_cast<int>(sequence.tokens.size()) &&
           tree.contains(sequence.prefix(pages + 1))) {
      ++pages;
    }
    return pages;
  }
  int newly_pinned(const NaiveSequence& sequence, int pages) const {
    int count = 0;
    for (int i = 1; i <= pages; ++i) count += references(sequence.prefix(i)) == 0 ? 1 : 0;
    return count;
  }
  void evict() {
    auto victim = tree.end();
    for (auto each = tree.begin(); each != tree.end(); ++each) {
      const auto after = std::next(each);
      const bool leaf = after == tree.end() || !after->first.starts_with(each->first);
      if (!leaf || references(each->first) > 0) continue;
      if (victim == tree.end() || each->second < victim->second) victim = each;
    }
    ASSERT_NE(victim, tree.end());
    tree.erase(victim);
  }
  void take(NaiveSequence& sequence) {
    if (free() == 0) evict();
    ++sequence.held;
  }
  void publish(NaiveSequence& sequence, int pages) {
    for (; sequence.published < pages; ++sequence.published) {
      tree.emplace(sequence.prefix(sequence.published + 1), 0);
    }
  }
  void release(NaiveSequence& sequence) {
    const int published = sequence.published;
    sequence.open = false;
    for (int pages = published; pages > 0; --pages) {
      if (references(sequence.prefix(pages)) == 0) tree[sequence.prefix(pages)] = ++tick_;
    }
  }

 private:
  long tick_ = 0;
};

// Who knows the tree from its changes alone.
class Follower {
 public:
  PrefixChanges changes;

  // The prefixes of the tree, as NaiveModel spells them.
  std::set<Prefix> prefixes() {
    if (changes.whole) prefixes_.clear();
    auto token = changes.tokens.begin();
    for (const PrefixChange& change : changes.changes) {
      if (change.kind == PrefixChange::Kind::kRemoved) {
        const Prefix removed = prefixes_.at(change.hash);
        prefixes_.erase(change.hash);
        for (const auto& [hash, prefix] : prefixes_) {
          EXPECT_FALSE(prefix.starts_with(removed)) << "a parent went before its child";
        }
        continue;
      }
      Prefix prefix = change.salt == 0 ? "x" : "y";
      if (change.parent) prefix = prefixes_.at(*change.parent);
      for (int i = 0; i < kPageTokens; ++i) prefix += *token++ == 0 ? 'a' : 'b';
      EXPECT_TRUE(prefixes_.emplace(change.hash, prefix).second) << "stored twice";
    }
    EXPECT_EQ(token, changes.tokens.end());
    changes = {};
    std::set<Prefix> out;
    for (const auto& [hash, prefix] : prefixes_) out.insert(prefix);
    return out;
  }

 private:
  std::map<std::uint64_t, Prefix> prefixes_;  // by hash
};

class BlockManagerRandom : public testing::Test {
 protected:
  struct Client {
    std::vector<TokenId> tokens;
    std::vector<std::uint64_t> hashes;
    std::uint64_t salt = 0;
    SequencePages pages;
    TokenRun run() const { return {tokens, {}}; }
  };

  int number(int low, int high) { return low + static_cast<int>(random_() % (high - low + 1U)); }

  void open(std::size_t index) {
    NaiveSequence& naive = model_.sequences[index];
    Client& client = clients_[index];
    const int pages = number(1, kMaxPages - 2);
    naive = NaiveSequence{};
    client.salt = static_cast<std::uint64_t>(number(0, 1));
    naive.tokens = client.salt == 0 ? "x" : "y";
    client.tokens.clear();
    client.hashes.clear();
    std::uint64_t hash = client.salt;
    for (int page = 0; page < pages; ++page) {
      for (int i = 0; i < kPageTokens; ++i) {
        const int token = number(0, 2) == 0 ? 1 : 0;
        client.tokens.push_back(token);
        naive.tokens.push_back(token == 0 ? 'a' : 'b');
      }
      hash = prefix_hash(hash, std::span(client.tokens).last(kPageTokens));
      client.hashes.push_back(hash);
    }
    const int limit = number(0, 3) == 0 ? 0 : pages;  // some take no hit
    const PrefixHit hit = blocks_.match(client.salt, client.run(), client.hashes, limit, 1);
    ASSERT_EQ(hit.pages, std::min(limit, model_.match(naive)));
    ASSERT_EQ(hit.newly_pinned, model_.newly_pinned(naive, hit.pages));
    const int promise = std::max(hit.pages, number(1, pages));
    const bool fits = blocks_.fits(promise, hit);
    ASSERT_EQ(fits, promise - hit.pages + hit.newly_pinned <= model_.available());
    if (!fits) return;
    blocks_.open(client.pages, client.salt, hit, promise);
    naive.promised = promise;
    naive.held = naive.published = hit.pages;
    naive.open = true;
  }

  void operate() {
    const auto index = static_cast<std::size_t>(number(0, kSequences - 1));
    NaiveSequence& naive = model_.sequences[index];
    Client& client = clients_[index];
    if (!naive.open) return open(index);
    switch (number(0, 7)) {
      case 0:
        blocks_.release(client.pages);
        model_.release(naive);
        break;
      case 1: {
        const bool extended = blocks_.try_extend(client.pages, 1);
        ASSERT_EQ(extended, model_.available() >= 1);
        if (extended) ++naive.promised;
        break;
      }
      case 2:
      case 3: {
        const int full = std::min(naive.held, static_cast<int>(client.hashes.size()));
        if (full <= naive.published) return;
        const int pages = number(naive.published + 1, full);
        blocks_.publish(client.pages, client.run(), client.hashes, pages);
        model_.publish(naive, pages);
        break;
      }
      default:
        if (naive.held == naive.promised) return;
        blocks_.take(client.pages);
        model_.take(naive);
    }
  }

  void compare() {
    const BlockManagerStats stats = blocks_.stats();
    ASSERT_EQ(stats.free, model_.free());
    ASSERT_EQ(stats.cached, model_.cached());
    ASSERT_EQ(stats.promised, model_.promised());
    ASSERT_EQ(stats.free + stats.cached + stats.used, kPages);
    for (std::size_t i = 0; i < kSequences; ++i) {
      if (!model_.sequences[i].open) continue;
      ASSERT_EQ(clients_[i].pages.held(), model_.sequences[i].held);
      ASSERT_EQ(clients_[i].pages.published(), model_.sequences[i].published);
    }
  }

  std::mt19937_64 random_{3'140'000};
  BlockManager blocks_{kPages, kPageTokens};
  NaiveModel model_;
  std::array<Client, kSequences> clients_;
  Follower follower_;
};

TEST_F(BlockManagerRandom, AgreesWithANaiveModelAndLeaksNothing) {
  SCOPED_TRACE("seed 3140000");
  for (int i = 0; i < kOperations; ++i) {
    operate();
    if (i % 8 == 0) compare();
    if (i % 32 == 0) blocks_.check_invariants();
    ASSERT_FALSE(HasFatalFailure()) << "operation " << i;
  }
  EXPECT_GT(blocks_.stats().evictions, 1000U);
  for (std::size_t i = 0; i < kSequences; ++i) {
    if (model_.sequences[i].open) blocks_.release(clients_[i].pages);
  }
  blocks_.check_invariants();
  EXPECT_EQ(blocks_.stats().used, 0);
  EXPECT_EQ(blocks_.stats().promised, 0);
}

TEST_F(BlockManagerRandom, TellsWhatTheTreeGainsAndLoses) {
  SCOPED_TRACE("seed 3140000");
  for (int i = 0; i < kOperations / 10; ++i) {
    operate();
    ASSERT_FALSE(HasFatalFailure()) << "operation " << i;
    if (i % 5000 == 1000) blocks_.record_prefixes(&follower_.changes);  // again and again
    if (i < 1000 || i % 8 != 0) continue;
    std::set<Prefix> expected;
    for (const auto& [prefix, time] : model_.tree) expected.insert(prefix);
    ASSERT_EQ(follower_.prefixes(), expected) << "operation " << i;
  }
  blocks_.record_prefixes(nullptr);
  follower_.changes = {};  // what came since the last look
  for (std::size_t i = 0; i < kSequences; ++i) {
    if (!model_.sequences[i].open) continue;
    blocks_.release(clients_[i].pages);
    model_.release(model_.sequences[i]);
  }
  for (int i = 0; i < 100; ++i) operate();
  EXPECT_TRUE(follower_.changes.empty());
  for (std::size_t i = 0; i < kSequences; ++i) {
    if (model_.sequences[i].open) blocks_.release(clients_[i].pages);
  }
}

}  // namespace
}  // namespace latentd
