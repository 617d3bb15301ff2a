// PageAllocator: which pages of the cache are free, and how many sequences refer to each other one.
//
// A page is free (on the free list), or held by `references` > 0 sequences, or idle: held by nobody
// and yet not free, because the prefix tree keeps what is in it. Who keeps idle pages is
// BlockManager's affair.
//
// Contract: bookkeeping only; every call is O(1) and allocates nothing after construction. Broken
// REQUIRES end the process. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/ids.h"

namespace latentd {

class PageAllocator {
 public:
  // All pages are free. REQUIRES: num_pages > 0.
  explicit PageAllocator(int num_pages);

  int num_pages() const { return static_cast<int>(references_.size()); }
  int num_free() const { return static_cast<int>(free_.size()); }

  // A free page, with one reference. REQUIRES: num_free() > 0.
  PageId take();

  // REQUIRES: the page is not free. Returns the references there are now.
  int add_reference(PageId page);

  // REQUIRES: references(page) > 0. Returns the references left; at 0 the page is idle, not free.
  int drop_reference(PageId page);

  // Puts an idle page on the free list.
  void free(PageId page);

  int references(PageId page) const;  // 0 for an idle page. REQUIRES: the page is not free.
  bool is_free(PageId page) const { return references_[page.index()] == kFree; }

  void check_invariants() const;  // O(pages)

 private:
  static constexpr std::int32_t kFree = -1;

  std::vector<PageId> free_;              // last in, first out: a warm page is written again first
  std::vector<std::int32_t> references_;  // [pages], kFree for free ones
};

}  // namespace latentd
