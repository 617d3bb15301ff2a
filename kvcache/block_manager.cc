#include "kvcache/block_manager.h"

#include <algorithm>

#include "base/check.h"

namespace latentd {

SequencePages::~SequencePages() {
  LATENTD_CHECK(!is_open(), "a sequence was destroyed with {} pages", held());
}

BlockManager::BlockManager(int num_pages, int page_tokens)
    : page_tokens_(page_tokens),
      allocator_(num_pages),
      tree_(num_pages, page_tokens),
      scratch_(static_cast<std::size_t>(page_tokens)) {}

PrefixHit BlockManager::match(std::uint64_t salt, const TokenRun& tokens,
                              std::span<const std::uint64_t> hashes, int max_pages,
                              int unit_pages) const {
  PrefixHit found;
  PrefixHit hit;
  for (std::size_t i = 0; i < static_cast<std::size_t>(max_pages); ++i) {
    const auto page = tokens.slice(i * scratch_.size(), scratch_);
    const std::optional<PageId> next = tree_.find(found.last, salt, hashes[i], page);
    if (!next) break;
    found.last = next;
    ++found.pages;
    if (tree_.is_unreferenced(*next)) ++found.newly_pinned;
    if (found.pages % unit_pages == 0) hit = found;
  }
  return hit;
}

void BlockManager::open(SequencePages& sequence, std::uint64_t salt, const PrefixHit& hit,
                        int promise) {
  LATENTD_CHECK(!sequence.is_open(), "the sequence is open");
  LATENTD_CHECK(promise >= hit.pages, "a promise of {} for a hit of {}", promise, hit.pages);
  LATENTD_CHECK(fits(promise, hit), "{} pages do not fit: {} available", promise, available());
  sequence.salt_ = salt;
  sequence.promised_ = promise;
  sequence.published_ = hit.pages;
  sequence.index_ = open_.size();
  open_.push_back(&sequence);
  outstanding_ += promise - hit.pages;

  sequence.pages_.resize(static_cast<std::size_t>(hit.pages));
  std::optional<PageId> page = hit.last;
  for (std::size_t i = sequence.pages_.size(); i-- > 0;) {
    LATENTD_CHECK(page.has_value(), "a hit of {} pages ends at page {}", hit.pages, i);
    pin(*page);
    sequence.pages_[i] = *page;
    page = tree_.parent(*page);
  }
}

bool BlockManager::try_extend(SequencePages& sequence, int pages) {
  LATENTD_CHECK(sequence.is_open(), "the sequence is closed");
  if (pages > available()) return false;
  sequence.promised_ += pages;
  outstanding_ += pages;
  return true;
}

PageId BlockManager::take(SequencePages& sequence) {
  LATENTD_CHECK(sequence.held() < sequence.promised(), "all {} promised pages are held",
                sequence.promised());
  if (allocator_.num_free() == 0) {
    allocator_.free(tree_.evict());
    ++evictions_;
  }
  const PageId page = allocator_.take();
  sequence.pages_.push_back(page);
  --outstanding_;
  return page;
}

int BlockManager::publish(SequencePages& sequence, const TokenRun& tokens,
                          std::span<const std::uint64_t> hashes, int num_pages) {
  LATENTD_CHECK(num_pages <= sequence.held(), "{} pages of {} are full", num_pages,
                sequence.held());
  int first_changed = sequence.held();
  for (; sequence.published_ < num_pages; ++sequence.published_) {
    const auto i = static_cast<std::size_t>(sequence.published_);
    const std::optional<PageId> parent =
        i == 0 ? std::nullopt : std::optional(sequence.pages_[i - 1]);
    const auto page_tokens = tokens.slice(i * scratch_.size(), scratch_);
    PageId& own = sequence.pages_[i];
    if (const auto same = tree_.find(parent, sequence.salt_, hashes[i], page_tokens)) {
      pin(*same);
      unpin(own);
      own = *same;
      first_changed = std::min(first_changed, sequence.published_);
    } else {
      tree_.insert(parent, sequence.salt_, hashes[i], page_tokens, own);
    }
  }
  return first_changed;
}

void BlockManager::release(SequencePages& sequence) {
  LATENTD_CHECK(sequence.is_open(), "the sequence is closed");
  // From the last to the first: see PrefixTree.
  for (std::size_t i = sequence.pages_.size(); i-- > 0;) unpin(sequence.pages_[i]);
  outstanding_ -= sequence.promised() - sequence.held();

  SequencePages* moved = open_.back();
  open_[sequence.index_] = moved;
  moved->index_ = sequence.index_;
  open_.pop_back();
  sequence.pages_.clear();
  sequence.promised_ = 0;
  sequence.published_ = 0;
  sequence.index_ = SequencePages::kClosed;
}

void BlockManager::pin(PageId page) {
  if (allocator_.add_reference(page) == 1) tree_.remove_unreferenced(page);
}

void BlockManager::unpin(PageId page) {
  if (allocator_.drop_reference(page) > 0) return;
  if (tree_.contains(page)) {
    tree_.add_unreferenced(page);
  } else {
    allocator_.free(page);
  }
}

BlockManagerStats BlockManager::stats() const {
  BlockManagerStats stats;
  stats.total = allocator_.num_pages();
  stats.free = allocator_.num_free();
  stats.cached = tree_.num_unreferenced();
  stats.used = stats.total - stats.free - stats.cached;
  stats.promised = outstanding_;
  stats.evictions = evictions_;
  return stats;
}

PageState BlockManager::state_of(PageId page) const {
  if (allocator_.is_free(page)) return PageState::kFree;
  const int references = allocator_.references(page);
  if (references == 0) return PageState::kCached;
  return references == 1 ? PageState::kPrivate : PageState::kShared;
}

void BlockManager::map_pages(std::vector<PageRun>& runs) const {
  runs.clear();
  for (int i = 0; i < num_pages(); ++i) {
    const PageState state = state_of(PageId(i));
    if (runs.empty() || runs.back().state != state) runs.push_back({state, 0});
    ++runs.back().count;
  }
}

void BlockManager::check_invariants() const {
  allocator_.check_invariants();
  tree_.check_invariants();
  LATENTD_CHECK(available() >= 0, "{} pages are promised that are not there", -available());

  std::vector<int> references(static_cast<std::size_t>(num_pages()), 0);
  int outstanding = 0;
  for (std::size_t i = 0; i < open_.size(); ++i) {
    const SequencePages& sequence = *open_[i];
    LATENTD_CHECK(sequence.index_ == i, "open sequence {} says {}", i, sequence.index_);
    LATENTD_CHECK(sequence.held() <= sequence.promised(), "{} pages held, {} promised",
                  sequence.held(), sequence.promised());
    LATENTD_CHECK(sequence.published() <= sequence.held(), "{} pages published, {} held",
                  sequence.published(), sequence.held());
    outstanding += sequence.promised() - sequence.held();
    std::optional<PageId> before;
    for (std::size_t at = 0; at < sequence.pages_.size(); ++at) {
      const PageId page = sequence.pages_[at];
      ++references[page.index()];
      const bool published = at < static_cast<std::size_t>(sequence.published());
      LATENTD_CHECK(tree_.contains(page) == published, "page {} at {}: published {}", page.value(),
                    at, published);
      LATENTD_CHECK(!published || tree_.parent(page) == before, "page {} has another parent",
                    page.value());
      before = page;
    }
  }
  LATENTD_CHECK(outstanding == outstanding_, "{} promised, counted {}", outstanding_, outstanding);

  for (int i = 0; i < num_pages(); ++i) {
    const PageId page(i);
    const int counted = references[page.index()];
    if (allocator_.is_free(page)) {
      LATENTD_CHECK(counted == 0 && !tree_.contains(page), "page {} is free and in use", i);
      continue;
    }
    LATENTD_CHECK(allocator_.references(page) == counted, "page {}: {} references, counted {}", i,
                  allocator_.references(page), counted);
    LATENTD_CHECK(counted > 0 || tree_.contains(page), "page {} leaked", i);
    LATENTD_CHECK(tree_.is_unreferenced(page) == (counted == 0), "page {}: cached", i);
    LATENTD_CHECK(counted <= 1 || tree_.contains(page), "page {} is shared unpublished", i);
  }
}

}  // namespace latentd
