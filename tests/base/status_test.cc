#include "base/status.h"

#include <gtest/gtest.h>

#include "base/result.h"

namespace latentd {
namespace {

TEST(Status, IsOkByDefault) {
  EXPECT_TRUE(Status().ok());
  EXPECT_EQ(Status().to_string(), "OK");
}

TEST(Status, NamesTheCodeTheFieldAndTheMessage) {
  const Status status = invalid_argument("max_tokens", "must be at least 1, got -3");
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(status.field(), "max_tokens");
  EXPECT_EQ(status.to_string(), "INVALID_ARGUMENT: max_tokens: must be at least 1, got -3");
}

TEST(Status, NumbersItsCodesAsGrpcDoes) {
  EXPECT_EQ(static_cast<int>(StatusCode::kInvalidArgument), 3);
  EXPECT_EQ(static_cast<int>(StatusCode::kResourceExhausted), 8);
  EXPECT_EQ(static_cast<int>(StatusCode::kUnauthenticated), 16);
  EXPECT_EQ(status_code_name(StatusCode::kUnauthenticated), "UNAUTHENTICATED");
}

Result<int> half(int value) {
  if (value % 2 != 0) return invalid_argument("value", "must be even");
  return value / 2;
}

Result<int> quarter(int value) {
  LATENTD_ASSIGN_OR_RETURN(const int once, half(value));
  return half(once);
}

Status both_even(int a, int b) {
  LATENTD_RETURN_IF_ERROR(half(a).status());
  return half(b).status();
}

TEST(Result, HoldsAValueOrTheReasonWhyNot) {
  EXPECT_EQ(*quarter(12), 3);
  EXPECT_EQ(quarter(6).status().field(), "value");
  EXPECT_EQ(quarter(3).status().code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(both_even(2, 4).ok());
  EXPECT_FALSE(both_even(1, 4).ok());
}

TEST(ResultDeathTest, EndsTheProcessWhenTheValueOfAnErrorIsRead) {
  EXPECT_DEATH({ (void)half(1).value(); }, "value of a failed Result");
}

}  // namespace
}  // namespace latentd
