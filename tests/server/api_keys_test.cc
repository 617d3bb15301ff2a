#include "server/api_keys.h"

#include <gtest/gtest.h>

namespace latentd {
namespace {

TEST(ApiKeys, WithoutKeysEverybodyMay) {
  const ApiKeys keys({});
  EXPECT_FALSE(keys.required());
  EXPECT_TRUE(keys.allows(""));
}

TEST(ApiKeys, WithKeysOnlyTheirHoldersMay) {
  const ApiKeys keys({"first", "second"});
  EXPECT_TRUE(keys.required());
  EXPECT_TRUE(keys.allows("Bearer first"));
  EXPECT_TRUE(keys.allows("bearer second"));
  for (const char* header : {"", "Bearer", "Bearer ", "first", "Basic first", "Bearer firs",
                             "Bearer first2", "Bearer  first", "Bearer FIRST"}) {
    EXPECT_FALSE(keys.allows(header)) << header;
  }
}

}  // namespace
}  // namespace latentd
