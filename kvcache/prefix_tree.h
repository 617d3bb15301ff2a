// PrefixTree: which full pages hold which tokens, so that an equal prefix is not computed twice.
//
// A node is one full page: its tokens, below the node of the page before it (or below a root, one
// for each salt). Two prefixes are the same only if salt and all tokens are: a hash finds the
// candidates, a comparison of the tokens decides. A node is named by its page, and all memory is
// laid out by page, so that nothing is allocated after construction.
//
// Which pages nobody refers to, the caller tells: they form one list in order of last use. Pages of
// a sequence join it from the last to the first, and a page is referred to only together with its
// parent, so that below a node only nodes before it in the list are unreferenced: the head of the
// list is always a leaf, and evicting heads is leaf-first, least recently used.
//
// Contract: bookkeeping only; all calls but record and check_invariants are O(1) (a comparison of
// one page's tokens included). Broken REQUIRES end the process. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/ids.h"
#include "kvcache/prefix_changes.h"

namespace latentd {

// The hash of a prefix one page longer than that of `previous`; the first page's `previous` is the
// salt.
std::uint64_t prefix_hash(std::uint64_t previous, std::span<const TokenId> page);

class PrefixTree {
 public:
  // REQUIRES: both positive.
  PrefixTree(int num_pages, int page_tokens);

  // The child of `parent` (nullopt: of the salt's root) that holds exactly `tokens`.
  // REQUIRES: tokens.size() == page_tokens; hash is theirs and all before them.
  std::optional<PageId> find(std::optional<PageId> parent, std::uint64_t salt, std::uint64_t hash,
                             std::span<const TokenId> tokens) const;

  // Adds such a child. REQUIRES: there is none; `page` is not in the tree, `parent` is.
  void insert(std::optional<PageId> parent, std::uint64_t salt, std::uint64_t hash,
              std::span<const TokenId> tokens, PageId page);

  bool contains(PageId page) const { return nodes_[page.index()].in_tree; }
  std::optional<PageId> parent(PageId page) const;
  int size() const { return size_; }

  // Nobody refers to the page from now on; it is the most recently used of those.
  // REQUIRES: in the tree, and its children are unreferenced.
  void add_unreferenced(PageId page);
  // Somebody does again.
  void remove_unreferenced(PageId page);
  bool is_unreferenced(PageId page) const { return nodes_[page.index()].unreferenced; }
  int num_unreferenced() const { return num_unreferenced_; }

  // Removes the least recently used unreferenced leaf and returns its page.
  // REQUIRES: num_unreferenced() > 0.
  PageId evict();

  // From now on `changes` hears of every page that comes and goes; first of all of those that are
  // here. O(pages), and it allocates, as recording does; nullptr ends it. REQUIRES: it lives as
  // long.
  void record(PrefixChanges* changes);

  void check_invariants() const;  // O(pages)

 private:
  static constexpr std::int32_t kNone = -1;

  struct Node {
    std::uint64_t hash = 0;
    std::uint64_t salt = 0;  // of its root
    std::int32_t parent = kNone;
    std::int32_t num_children = 0;
    std::int32_t next_in_bucket = kNone;
    std::int32_t older = kNone;  // neighbours in the list of unreferenced pages
    std::int32_t newer = kNone;
    bool in_tree = false;
    bool unreferenced = false;
  };

  Node& node(std::int32_t index) { return nodes_[static_cast<std::size_t>(index)]; }
  const Node& node(std::int32_t index) const { return nodes_[static_cast<std::size_t>(index)]; }
  std::int32_t& bucket(std::uint64_t hash) { return buckets_[hash & (buckets_.size() - 1)]; }
  std::span<const TokenId> tokens_of(std::int32_t index) const;
  std::optional<std::uint64_t> parent_hash(std::int32_t index) const;
  void erase(std::int32_t index);

  const std::size_t page_tokens_;
  std::vector<Node> nodes_;            // [pages]
  std::vector<TokenId> tokens_;        // [pages, page_tokens]
  std::vector<std::int32_t> buckets_;  // [a power of two]: first node of each
  std::int32_t oldest_ = kNone;
  std::int32_t newest_ = kNone;
  int size_ = 0;
  int num_unreferenced_ = 0;
  PrefixChanges* changes_ = nullptr;  // null: nobody asks
};

}  // namespace latentd
