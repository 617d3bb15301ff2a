#include "kvcache/prefix_tree.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace latentd {
namespace {

// One round of multiply and fold; the constant is 2^64 divided by the golden ratio, made odd.
std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15ULL;
  return hash ^ (hash >> 32);
}

}  // namespace

std::uint64_t prefix_hash(std::uint64_t previous, std::span<const TokenId> page) {
  std::uint64_t hash = mix(previous, page.size());
  std::size_t i = 0;
  for (; i + 1 < page.size(); i += 2) {
    const auto low = static_cast<std::uint32_t>(page[i]);
    const auto high = static_cast<std::uint32_t>(page[i + 1]);
    hash = mix(hash, (static_cast<std::uint64_t>(high) << 32) | low);
  }
  if (i < page.size()) hash = mix(hash, static_cast<std::uint32_t>(page[i]));
  return hash;
}

PrefixTree::PrefixTree(int num_pages, int page_tokens)
    : page_tokens_(static_cast<std::size_t>(page_tokens)) {
  LATENTD_CHECK(num_pages > 0 && page_tokens > 0, "{} pages of {} tokens", num_pages, page_tokens);
  const auto pages = static_cast<std::size_t>(num_pages);
  nodes_.resize(pages);
  tokens_.resize(pages * page_tokens_);
  buckets_.assign(std::bit_ceil(2 * pages), kNone);
}

std::span<const TokenId> PrefixTree::tokens_of(std::int32_t index) const {
  return std::span(tokens_).subspan(static_cast<std::size_t>(index) * page_tokens_, page_tokens_);
}

std::optional<PageId> PrefixTree::find(std::optional<PageId> parent, std::uint64_t salt,
                                       std::uint64_t hash, std::span<const TokenId> tokens) const {
  const std::int32_t above = parent ? parent->value() : kNone;
  std::int32_t index = buckets_[hash & (buckets_.size() - 1)];
  for (; index != kNone; index = node(index).next_in_bucket) {
    const Node& candidate = node(index);
    if (candidate.hash == hash && candidate.parent == above && candidate.salt == salt &&
        std::ranges::equal(tokens_of(index), tokens)) {
      return PageId(index);
    }
  }
  return std::nullopt;
}

void PrefixTree::insert(std::optional<PageId> parent, std::uint64_t salt, std::uint64_t hash,
                        std::span<const TokenId> tokens, PageId page) {
  LATENTD_CHECK(tokens.size() == page_tokens_, "{} tokens are no full page of {}", tokens.size(),
                page_tokens_);
  LATENTD_CHECK(!contains(page), "page {} is in the tree", page.value());
  LATENTD_CHECK(!parent || contains(*parent), "page {}'s parent is not in the tree", page.value());
  Node& added = node(page.value());
  added = Node{.hash = hash,
               .salt = salt,
               .parent = parent ? parent->value() : kNone,
               .next_in_bucket = bucket(hash),
               .in_tree = true};
  bucket(hash) = page.value();
  if (parent) ++node(parent->value()).num_children;
  std::ranges::copy(tokens,
                    tokens_.begin() + static_cast<std::ptrdiff_t>(page.index() * page_tokens_));
  ++size_;
  if (changes_ != nullptr) changes_->store(salt, hash, parent_hash(page.value()), tokens);
}

std::optional<std::uint64_t> PrefixTree::parent_hash(std::int32_t index) const {
  const std::int32_t above = node(index).parent;
  return above == kNone ? std::nullopt : std::optional(node(above).hash);
}

void PrefixTree::record(PrefixChanges* changes) {
  changes_ = changes;
  if (changes == nullptr) return;
  *changes = {};
  changes->whole = true;
  std::vector<bool> told(nodes_.size(), false);
  std::vector<std::int32_t> path;  // from a page up to the first ancestor that was told
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    if (!nodes_[i].in_tree) continue;
    auto index = static_cast<std::int32_t>(i);
    for (; index != kNone && !told[static_cast<std::size_t>(index)]; index = node(index).parent) {
      path.push_back(index);
      told[static_cast<std::size_t>(index)] = true;
    }
    for (; !path.empty(); path.pop_back()) {
      const std::int32_t next = path.back();
      changes->store(node(next).salt, node(next).hash, parent_hash(next), tokens_of(next));
    }
  }
}

std::optional<PageId> PrefixTree::parent(PageId page) const {
  const std::int32_t above = node(page.value()).parent;
  return above == kNone ? std::nullopt : std::optional(PageId(above));
}

void PrefixTree::add_unreferenced(PageId page) {
  Node& added = node(page.value());
  LATENTD_CHECK(added.in_tree && !added.unreferenced, "page {} is no referenced node",
                page.value());
  added.unreferenced = true;
  added.older = newest_;
  added.newer = kNone;
  (newest_ == kNone ? oldest_ : node(newest_).newer) = page.value();
  newest_ = page.value();
  ++num_unreferenced_;
}

void PrefixTree::remove_unreferenced(PageId page) {
  Node& removed = node(page.value());
  LATENTD_CHECK(removed.unreferenced, "page {} is not unreferenced", page.value());
  (removed.older == kNone ? oldest_ : node(removed.older).newer) = removed.newer;
  (removed.newer == kNone ? newest_ : node(removed.newer).older) = removed.older;
  removed.unreferenced = false;
  --num_unreferenced_;
}

PageId PrefixTree::evict() {
  LATENTD_CHECK(oldest_ != kNone, "nothing can be evicted");
  const PageId page(oldest_);
  remove_unreferenced(page);
  erase(page.value());
  return page;
}

void PrefixTree::erase(std::int32_t index) {
  Node& erased = node(index);
  LATENTD_CHECK(erased.num_children == 0, "page {} has {} children", index, erased.num_children);
  std::int32_t* link = &bucket(erased.hash);
  while (*link != index) link = &node(*link).next_in_bucket;
  *link = erased.next_in_bucket;
  if (erased.parent != kNone) --node(erased.parent).num_children;
  if (changes_ != nullptr) changes_->remove(erased.salt, erased.hash);
  erased = Node{};
  --size_;
}

void PrefixTree::check_invariants() const {
  std::vector<int> children(nodes_.size(), 0);
  int size = 0;
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    const Node& each = nodes_[i];
    if (!each.in_tree) {
      LATENTD_CHECK(!each.unreferenced, "page {} is listed but not in the tree", i);
      continue;
    }
    ++size;
    const auto index = static_cast<std::int32_t>(i);
    const std::optional<PageId> above = parent(PageId(index));
    LATENTD_CHECK(find(above, each.salt, each.hash, tokens_of(index)) == PageId(index),
                  "page {} is not found by its tokens", i);
    const std::uint64_t before = above ? node(above->value()).hash : each.salt;
    LATENTD_CHECK(prefix_hash(before, tokens_of(index)) == each.hash, "page {}: hash", i);
    if (above) {
      LATENTD_CHECK(contains(*above), "page {} has no parent", i);
      LATENTD_CHECK(node(above->value()).salt == each.salt, "page {} changes the salt", i);
      ++children[above->index()];
    }
  }
  LATENTD_CHECK(size == size_, "{} nodes, counted {}", size_, size);
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    LATENTD_CHECK(children[i] == nodes_[i].num_children, "page {}: children", i);
  }

  // In the list, every node comes after all of its children; none of its children is referenced.
  int listed = 0;
  std::vector<int> listed_children(nodes_.size(), 0);
  std::int32_t last = kNone;
  for (std::int32_t index = oldest_; index != kNone; index = node(index).newer) {
    const Node& each = node(index);
    LATENTD_CHECK(each.unreferenced && each.older == last, "list at page {}", index);
    LATENTD_CHECK(listed_children[static_cast<std::size_t>(index)] == each.num_children,
                  "page {} comes before a child", index);
    if (each.parent != kNone) ++listed_children[static_cast<std::size_t>(each.parent)];
    last = index;
    ++listed;
  }
  LATENTD_CHECK(last == newest_ && listed == num_unreferenced_, "{} unreferenced, counted {}",
                num_unreferenced_, listed);
}

}  // namespace latentd
