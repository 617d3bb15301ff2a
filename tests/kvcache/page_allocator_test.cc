#include "kvcache/page_allocator.h"

#include <gtest/gtest.h>

#include <set>

namespace latentd {
namespace {

TEST(PageAllocator, GivesEveryPageOnceBeforeAnyTwice) {
  PageAllocator allocator(5);
  std::set<PageId> taken;
  while (allocator.num_free() > 0) taken.insert(allocator.take());
  EXPECT_EQ(taken.size(), 5U);
  EXPECT_EQ(*taken.begin(), PageId(0));
  EXPECT_EQ(*taken.rbegin(), PageId(4));
  allocator.check_invariants();
}

TEST(PageAllocator, CountsReferences) {
  PageAllocator allocator(2);
  const PageId page = allocator.take();
  EXPECT_EQ(allocator.references(page), 1);
  EXPECT_EQ(allocator.add_reference(page), 2);
  EXPECT_EQ(allocator.drop_reference(page), 1);
  EXPECT_EQ(allocator.drop_reference(page), 0);
  EXPECT_FALSE(allocator.is_free(page)) << "an idle page is not free";
  EXPECT_EQ(allocator.num_free(), 1);
  allocator.check_invariants();
}

TEST(PageAllocator, GivesAFreedPageOutAgainFirst) {
  PageAllocator allocator(4);
  const PageId page = allocator.take();
  allocator.drop_reference(page);
  allocator.free(page);
  EXPECT_TRUE(allocator.is_free(page));
  EXPECT_EQ(allocator.take(), page);
}

TEST(PageAllocatorDeathTest, EndsTheProcessOnADoubleFree) {
  PageAllocator allocator(2);
  const PageId page = allocator.take();
  EXPECT_DEATH(allocator.free(page), "not idle");
  allocator.drop_reference(page);
  EXPECT_DEATH(allocator.drop_reference(page), "has no reference");
  allocator.free(page);
  EXPECT_DEATH(allocator.free(page), "not idle");
  EXPECT_DEATH(allocator.add_reference(page), "is free");
  EXPECT_DEATH((void)allocator.references(page), "is free");
}

TEST(PageAllocatorDeathTest, EndsTheProcessWhenNothingIsFree) {
  EXPECT_DEATH(PageAllocator(0), "at least one page");
  PageAllocator allocator(1);
  allocator.take();
  EXPECT_DEATH(allocator.take(), "no page is free");
}

}  // namespace
}  // namespace latentd
