#include "server/recent_requests.h"

#include <gtest/gtest.h>

namespace latentd {
namespace {

TEST(RecentRequests, KeepTheLastOnesNewestFirst) {
  RecentRequests recent;
  EXPECT_TRUE(recent.newest_first("").empty());
  for (std::size_t i = 0; i < RecentRequests::kCapacity + 7; ++i) {
    RequestRecord record;
    record.request_id = std::to_string(i);
    recent.add(std::move(record));
  }
  const auto records = recent.newest_first("");
  ASSERT_EQ(records.size(), RecentRequests::kCapacity);
  EXPECT_EQ(records.front().request_id, std::to_string(RecentRequests::kCapacity + 6));
  EXPECT_EQ(records.back().request_id, "7");
}

TEST(RecentRequests, ShowATenantItsOwnAndTheOperatorAll) {
  RecentRequests recent;
  for (const char* tenant : {"a", "b", "a", ""}) {
    RequestRecord record;
    record.tenant = tenant;
    recent.add(std::move(record));
  }
  EXPECT_EQ(recent.newest_first("a").size(), 2U);
  EXPECT_EQ(recent.newest_first("b").size(), 1U);
  EXPECT_EQ(recent.newest_first("c").size(), 0U);
  EXPECT_EQ(recent.newest_first("").size(), 4U);
}

}  // namespace
}  // namespace latentd
