#include "kvcache/page_allocator.h"

#include "base/check.h"

namespace latentd {

PageAllocator::PageAllocator(int num_pages) {
  LATENTD_CHECK(num_pages > 0, "a cache has at least one page, not {}", num_pages);
  references_.assign(static_cast<std::size_t>(num_pages), kFree);
  free_.reserve(static_cast<std::size_t>(num_pages));
  for (int page = num_pages - 1; page >= 0; --page) free_.push_back(PageId(page));
}

PageId PageAllocator::take() {
  LATENTD_CHECK(!free_.empty(), "no page is free");
  const PageId page = free_.back();
  free_.pop_back();
  references_[page.index()] = 1;
  return page;
}

int PageAllocator::add_reference(PageId page) {
  LATENTD_CHECK(!is_free(page), "page {} is free", page.value());
  return ++references_[page.index()];
}

int PageAllocator::drop_reference(PageId page) {
  LATENTD_CHECK(references_[page.index()] > 0, "page {} has no reference", page.value());
  return --references_[page.index()];
}

void PageAllocator::free(PageId page) {
  LATENTD_CHECK(references_[page.index()] == 0, "page {} is not idle: {}", page.value(),
                references_[page.index()]);
  references_[page.index()] = kFree;
  free_.push_back(page);
}

int PageAllocator::references(PageId page) const {
  LATENTD_CHECK(!is_free(page), "page {} is free", page.value());
  return references_[page.index()];
}

void PageAllocator::check_invariants() const {
  std::vector<bool> listed(references_.size(), false);
  for (const PageId page : free_) {
    LATENTD_CHECK(is_free(page), "page {} is listed as free", page.value());
    LATENTD_CHECK(!listed[page.index()], "page {} is listed twice", page.value());
    listed[page.index()] = true;
  }
  for (std::size_t page = 0; page < references_.size(); ++page) {
    LATENTD_CHECK(listed[page] == (references_[page] == kFree), "page {}: listed {}, references {}",
                  page, static_cast<bool>(listed[page]), references_[page]);
  }
}

}  // namespace latentd
