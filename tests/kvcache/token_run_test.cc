#include "kvcache/token_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace latentd {
namespace {

using testing::ElementsAre;

TEST(TokenRun, ReadsAcrossTheEndOfThePrompt) {
  const std::vector<TokenId> prompt{1, 2, 3};
  const std::vector<TokenId> generated{4, 5, 6};
  const TokenRun run{prompt, generated};
  EXPECT_EQ(run.size(), 6U);
  EXPECT_EQ(run[2], 3);
  EXPECT_EQ(run[3], 4);
  std::array<TokenId, 2> scratch{};
  EXPECT_THAT(run.slice(0, scratch), ElementsAre(1, 2));
  EXPECT_EQ(run.slice(0, scratch).data(), prompt.data()) << "no copy where none is needed";
  EXPECT_THAT(run.slice(2, scratch), ElementsAre(3, 4));
  EXPECT_THAT(run.slice(4, scratch), ElementsAre(5, 6));
  EXPECT_EQ(run.slice(4, scratch).data(), generated.data() + 1);
}

}  // namespace
}  // namespace latentd
