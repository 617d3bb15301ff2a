// BlockManager: the only door to the pages of the cache. It answers whether a sequence fits, gives
// pages out as they are written, and shares the full pages of equal prefixes.
//
// Exact admission. A sequence is opened with a promise: the number of pages it will ever hold. A
// promise is a count, not pages, so that promised space keeps serving the prefix cache until it is
// written:
//
//   promised    = sum over open sequences of (promise - held)
//   available   = free + cached - promised                                  never negative
//   a sequence fits <=> (promise - hit) + pages newly pinned by its hit <= available
//
//   used = referenced pages, cached = unreferenced pages in the prefix tree, free = the rest;
//   used + cached + free = total, always.
//
// A sequence's table is, page by page, a path of the prefix tree as far as it is published, then
// pages of its own. Every page of a path is referenced by whoever references a page below it, so
// every unreferenced page of the tree can be evicted, leaves first.
//
// Contract: pure bookkeeping; no clock, randomness, log or lock; nothing is allocated after the
// tables have grown (SequencePages::reserve). Broken REQUIRES end the process. Not thread-safe: one
// thread, the engine's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/ids.h"
#include "kvcache/page_allocator.h"
#include "kvcache/prefix_tree.h"
#include "kvcache/token_run.h"

namespace latentd {

struct BlockManagerStats {
  int total = 0;     // pages of the cache
  int free = 0;      // hold nothing
  int cached = 0;    // hold a prefix that nobody uses
  int used = 0;      // referenced by a sequence
  int promised = 0;  // promised to open sequences and not yet held by them
  std::uint64_t evictions = 0;

  // (used + promised) / total: what vLLM calls kv_cache_usage_perc.
  double usage() const {
    return total == 0 ? 0.0 : static_cast<double>(used + promised) / static_cast<double>(total);
  }
  friend bool operator==(const BlockManagerStats&, const BlockManagerStats&) = default;
};

// What a page is at a moment, as a map of the pool shows it.
enum class PageState : std::uint8_t {
  kFree,     // holds nothing
  kPrivate,  // referenced by one sequence
  kShared,   // referenced by several
  kCached,   // holds a prefix that nobody uses
};

// `count` pages in a row, by number, of one state.
struct PageRun {
  PageState state = PageState::kFree;
  int count = 0;

  friend bool operator==(const PageRun&, const PageRun&) = default;
};

// The page table of one sequence and its account with the block manager, which alone changes it.
// REQUIRES: released before it is destroyed; it does not move while open.
class SequencePages {
 public:
  SequencePages() = default;
  ~SequencePages();
  SequencePages(const SequencePages&) = delete;
  SequencePages& operator=(const SequencePages&) = delete;

  std::span<const PageId> pages() const { return pages_; }
  int held() const { return static_cast<int>(pages_.size()); }
  int promised() const { return promised_; }    // pages in all, held ones included
  int published() const { return published_; }  // the first pages that are in the prefix tree
  bool is_open() const { return index_ != kClosed; }
  void reserve(int num_pages) { pages_.reserve(static_cast<std::size_t>(num_pages)); }

 private:
  friend class BlockManager;
  static constexpr std::size_t kClosed = static_cast<std::size_t>(-1);

  std::vector<PageId> pages_;
  std::uint64_t salt_ = 0;
  int promised_ = 0;
  int published_ = 0;
  std::size_t index_ = kClosed;  // among the manager's open sequences
};

// What the cache has of a prompt. Valid until the next call that changes the manager.
struct PrefixHit {
  int pages = 0;
  int newly_pinned = 0;  // of these, cached ones: to use them takes them from what is available
  std::optional<PageId> last;  // the deepest
};

class BlockManager {
 public:
  // REQUIRES: both positive.
  BlockManager(int num_pages, int page_tokens);
  BlockManager(const BlockManager&) = delete;
  BlockManager& operator=(const BlockManager&) = delete;

  int num_pages() const { return allocator_.num_pages(); }
  int page_tokens() const { return page_tokens_; }
  int pages_for_tokens(int num_tokens) const {
    return (num_tokens + page_tokens_ - 1) / page_tokens_;
  }
  // Whether several sequences have the page.
  bool is_shared(PageId page) const { return allocator_.references(page) > 1; }
  int available() const { return allocator_.num_free() + tree_.num_unreferenced() - outstanding_; }

  // The longest run of the first pages of `tokens` in the tree, at most max_pages, rounded down to
  // a multiple of unit_pages. hashes[i] is prefix_hash over pages 0 .. i. Changes nothing.
  // REQUIRES: max_pages full pages and as many hashes; unit_pages > 0.
  PrefixHit match(std::uint64_t salt, const TokenRun& tokens, std::span<const std::uint64_t> hashes,
                  int max_pages, int unit_pages) const;

  // Whether a sequence of `promise` pages, the hit's included, can be opened now.
  bool fits(int promise, const PrefixHit& hit) const {
    return promise - hit.pages + hit.newly_pinned <= available();
  }

  // Opens `sequence`: pins the hit as its first pages and books the promise.
  // REQUIRES: closed; hit is current; promise >= hit.pages; fits(promise, hit).
  void open(SequencePages& sequence, std::uint64_t salt, const PrefixHit& hit, int promise);

  // Raises the promise by `pages`; false, and nothing changed, when they are not available.
  bool try_extend(SequencePages& sequence, int pages);

  // Appends a page to the table, evicting a cached one when none is free; its contents are void.
  // REQUIRES: held() < promised().
  PageId take(SequencePages& sequence);

  // Full pages [published(), num_pages) have been computed: adds them to the tree. Where the tree
  // has a page of the same prefix already, the sequence takes that one and gives its own back (the
  // arithmetic is unharmed: at most one cached page becomes used for one that becomes free).
  // Returns the first index of the table that changed; held() when none did. A page given back may
  // still be read by steps in flight: whoever takes it writes it in a later step, and steps run in
  // order.
  // REQUIRES: num_pages <= held(); that many full pages of tokens and hashes.
  int publish(SequencePages& sequence, const TokenRun& tokens,
              std::span<const std::uint64_t> hashes, int num_pages);

  // Closes `sequence`: its published pages stay as cached ones, the others become free.
  void release(SequencePages& sequence);

  BlockManagerStats stats() const;

  // Replaces `runs` by the states of all pages, in the order of their numbers; neighbouring runs
  // differ. O(pages), and the vector may grow: for somebody who looks, not for a step.
  void map_pages(std::vector<PageRun>& runs) const;

  // As PrefixTree::record.
  void record_prefixes(PrefixChanges* changes) { tree_.record(changes); }

  // Ends the process when any invariant above is broken. O(pages).
  void check_invariants() const;

 private:
  PageState state_of(PageId page) const;
  void pin(PageId page);
  void unpin(PageId page);

  const int page_tokens_;
  PageAllocator allocator_;
  PrefixTree tree_;
  std::vector<SequencePages*> open_;
  int outstanding_ = 0;  // promised and not held
  std::uint64_t evictions_ = 0;
  mutable std::vector<TokenId> scratch_;  // one page of tokens
};

}  // namespace latentd
