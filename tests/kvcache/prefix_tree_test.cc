#include "kvcache/prefix_tree.h"

#include <gtest/gtest.h>

#include <vector>

namespace latentd {
namespace {

constexpr int kPageTokens = 2;
using Page = std::vector<TokenId>;

TEST(PrefixTree, FindsOnlyExactlyEqualTokens) {
  PrefixTree tree(4, kPageTokens);
  const Page tokens{1, 2};
  // The hash is a shortcut: with one and the same for all, the tokens decide.
  tree.insert(std::nullopt, 0, 99, tokens, PageId(3));
  EXPECT_EQ(tree.find(std::nullopt, 0, 99, tokens), PageId(3));
  EXPECT_FALSE(tree.find(std::nullopt, 0, 99, Page{1, 3}));
  EXPECT_FALSE(tree.find(std::nullopt, 0, 99, Page{2, 1}));
  EXPECT_FALSE(tree.find(std::nullopt, 0, 98, tokens));
}

TEST(PrefixTree, KeepsSaltsApart) {
  PrefixTree tree(4, kPageTokens);
  const Page tokens{1, 2};
  tree.insert(std::nullopt, 7, 99, tokens, PageId(0));
  EXPECT_FALSE(tree.find(std::nullopt, 8, 99, tokens));
  tree.insert(std::nullopt, 8, 99, tokens, PageId(1));
  EXPECT_EQ(tree.find(std::nullopt, 7, 99, tokens), PageId(0));
  EXPECT_EQ(tree.find(std::nullopt, 8, 99, tokens), PageId(1));
  EXPECT_NE(prefix_hash(7, tokens), prefix_hash(8, tokens));
}

TEST(PrefixTree, TellsEqualPagesBelowDifferentParentsApart) {
  PrefixTree tree(4, kPageTokens);
  const Page tokens{5, 5};
  tree.insert(std::nullopt, 0, prefix_hash(0, Page{1, 1}), Page{1, 1}, PageId(0));
  tree.insert(std::nullopt, 0, prefix_hash(0, Page{2, 2}), Page{2, 2}, PageId(1));
  tree.insert(PageId(0), 0, 42, tokens, PageId(2));
  EXPECT_EQ(tree.find(PageId(0), 0, 42, tokens), PageId(2));
  EXPECT_FALSE(tree.find(PageId(1), 0, 42, tokens));
  EXPECT_EQ(tree.parent(PageId(2)), PageId(0));
  EXPECT_FALSE(tree.parent(PageId(0)));
}

// A chain of pages with honest hashes; returns the hash of the last.
std::uint64_t insert_chain(PrefixTree& tree, const std::vector<std::pair<PageId, Page>>& chain) {
  std::optional<PageId> parent;
  std::uint64_t hash = 0;
  for (const auto& [page, tokens] : chain) {
    hash = prefix_hash(hash, tokens);
    if (!tree.contains(page)) tree.insert(parent, 0, hash, tokens, page);
    parent = page;
  }
  return hash;
}

TEST(PrefixTree, EvictsLeastRecentlyUsedLeafFirst) {
  PrefixTree tree(8, kPageTokens);
  // 0 - 1 - 2 and 0 - 3
  insert_chain(tree, {{PageId(0), {1, 1}}, {PageId(1), {2, 2}}, {PageId(2), {3, 3}}});
  insert_chain(tree, {{PageId(0), {1, 1}}, {PageId(3), {4, 4}}});
  tree.add_unreferenced(PageId(2));
  tree.add_unreferenced(PageId(1));
  tree.add_unreferenced(PageId(3));
  tree.add_unreferenced(PageId(0));
  tree.check_invariants();
  EXPECT_EQ(tree.num_unreferenced(), 4);
  for (const int expected : {2, 1, 3, 0}) {
    EXPECT_EQ(tree.evict(), PageId(expected));
    tree.check_invariants();
  }
  EXPECT_EQ(tree.size(), 0);
}

TEST(PrefixTree, KeepsWhatIsUsedAgain) {
  PrefixTree tree(4, kPageTokens);
  insert_chain(tree, {{PageId(0), {1, 1}}});
  insert_chain(tree, {{PageId(1), {2, 2}}});
  insert_chain(tree, {{PageId(2), {3, 3}}});
  for (const int page : {0, 1, 2}) tree.add_unreferenced(PageId(page));
  tree.remove_unreferenced(PageId(1));
  EXPECT_FALSE(tree.is_unreferenced(PageId(1)));
  EXPECT_EQ(tree.evict(), PageId(0));
  tree.add_unreferenced(PageId(1));
  EXPECT_EQ(tree.evict(), PageId(2));
  EXPECT_EQ(tree.evict(), PageId(1));
}

TEST(PrefixTree, TellsParentsFirstWhateverTheirPages) {
  PrefixTree tree(8, kPageTokens);
  insert_chain(tree, {{PageId(5), {1, 1}}, {PageId(3), {2, 2}}, {PageId(0), {3, 3}}});
  insert_chain(tree, {{PageId(5), {1, 1}}, {PageId(1), {4, 4}}});
  PrefixChanges changes;
  tree.record(&changes);
  EXPECT_TRUE(changes.whole);
  const std::uint64_t one = prefix_hash(0, Page{1, 1});
  const std::uint64_t two = prefix_hash(one, Page{2, 2});
  const auto stored = PrefixChange::Kind::kStored;
  EXPECT_EQ(changes.changes,
            (std::vector<PrefixChange>{{stored, 0, one, std::nullopt},
                                       {stored, 0, two, one},
                                       {stored, 0, prefix_hash(two, Page{3, 3}), two},
                                       {stored, 0, prefix_hash(one, Page{4, 4}), one}}));
  EXPECT_EQ(changes.tokens, (std::vector<TokenId>{1, 1, 2, 2, 3, 3, 4, 4}));

  changes = {};
  tree.add_unreferenced(PageId(0));
  tree.evict();
  tree.insert(std::nullopt, 9, prefix_hash(9, Page{1, 1}), Page{1, 1}, PageId(0));
  EXPECT_EQ(changes.changes,
            (std::vector<PrefixChange>{
                {PrefixChange::Kind::kRemoved, 0, prefix_hash(two, Page{3, 3}), {}},
                {stored, 9, prefix_hash(9, Page{1, 1}), std::nullopt}}));
  EXPECT_FALSE(changes.whole);
}

TEST(PrefixTree, HashesPagesOfAnOddLengthToTheirLastToken) {
  EXPECT_NE(prefix_hash(0, Page{1, 2, 3}), prefix_hash(0, Page{1, 2, 4}));
  EXPECT_NE(prefix_hash(0, Page{0}), prefix_hash(0, Page{0, 0}));
}

TEST(PrefixTreeDeathTest, EndsTheProcessOnMisuse) {
  PrefixTree tree(4, kPageTokens);
  EXPECT_DEATH(tree.evict(), "nothing can be evicted");
  EXPECT_DEATH(tree.insert(std::nullopt, 0, 1, Page{1}, PageId(0)), "no full page");
  EXPECT_DEATH(tree.insert(PageId(1), 0, 1, Page{1, 1}, PageId(0)), "parent is not in the tree");
  EXPECT_DEATH(tree.add_unreferenced(PageId(0)), "no referenced node");
  insert_chain(tree, {{PageId(0), {1, 1}}, {PageId(1), {2, 2}}});
  EXPECT_DEATH(tree.insert(std::nullopt, 0, 1, Page{1, 1}, PageId(0)), "is in the tree");
  EXPECT_DEATH(tree.remove_unreferenced(PageId(0)), "is not unreferenced");
  // A parent that is released before its child could be evicted before it.
  tree.add_unreferenced(PageId(0));
  EXPECT_DEATH(tree.check_invariants(), "before a child");
  EXPECT_DEATH(tree.evict(), "has 1 children");
}

}  // namespace
}  // namespace latentd
