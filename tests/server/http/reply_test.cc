#include "server/http/reply.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

namespace latentd {
namespace {

using ::testing::Contains;
using ::testing::Pair;

nlohmann::json error_of(const HttpReply& reply) {
  return nlohmann::json::parse(reply.body).at("error");
}

TEST(Reply, ErrorsHaveTheFourFieldsOfTheApi) {
  const HttpReply reply = error_reply(invalid_argument("max_tokens", "must be at least 0"));
  EXPECT_EQ(reply.status, 400);
  const auto error = error_of(reply);
  EXPECT_EQ(error.size(), 4U);
  EXPECT_EQ(error["message"], "max_tokens: must be at least 0");
  EXPECT_EQ(error["type"], "invalid_request_error");
  EXPECT_EQ(error["param"], "max_tokens");
  EXPECT_TRUE(error["code"].is_null());
}

TEST(Reply, MapsCodesToStatuses) {
  EXPECT_EQ(error_of(error_reply(Status(StatusCode::kOutOfRange, "long")))["code"],
            "context_length_exceeded");
  EXPECT_EQ(error_reply(Status(StatusCode::kOutOfRange, "long")).status, 400);
  EXPECT_EQ(error_reply(Status(StatusCode::kUnauthenticated, "key")).status, 401);
  EXPECT_EQ(error_of(error_reply(Status(StatusCode::kNotFound, "m")))["code"], "model_not_found");
  EXPECT_EQ(error_reply(Status(StatusCode::kInternal, "oh")).status, 500);
  EXPECT_EQ(error_reply(Status(StatusCode::kUnavailable, "later")).status, 503);
  EXPECT_EQ(error_reply(Status(StatusCode::kDeadlineExceeded, "late")).status, 504);
}

TEST(Reply, SheddingSaysWhenToComeBack) {
  const HttpReply reply = error_reply(Status(StatusCode::kResourceExhausted, "full"));
  EXPECT_EQ(reply.status, 429);
  EXPECT_THAT(reply.headers, Contains(Pair("Retry-After", "1")));
  EXPECT_THAT(reply.headers, Contains(Pair("Retry-After-Ms", "1000")));
  const HttpReply later = error_reply(Status(StatusCode::kResourceExhausted, "rate"), 2500);
  EXPECT_THAT(later.headers, Contains(Pair("Retry-After", "3")));
  EXPECT_THAT(later.headers, Contains(Pair("Retry-After-Ms", "2500")));
}

TEST(Reply, WhatWouldFailAgainIsNotToBeSentAgain) {
  EXPECT_THAT(error_reply(Status(StatusCode::kInternal, "oh")).headers,
              Contains(Pair("X-Should-Retry", "false")));
  EXPECT_THAT(error_reply(Status(StatusCode::kUnavailable, "later")).headers,
              ::testing::Not(Contains(Pair("X-Should-Retry", "false"))));
}

TEST(Reply, ErrorsOfHttpHaveTheSameShape) {
  const HttpReply reply = http_error(413, "too large");
  EXPECT_EQ(reply.status, 413);
  EXPECT_EQ(error_of(reply)["message"], "too large");
  EXPECT_TRUE(error_of(reply)["param"].is_null());
}

TEST(Reply, BytesThatAreNotTextStillMakeJson) {
  EXPECT_NO_THROW(error_of(error_reply(Status(StatusCode::kInternal, "\xff"))));
}

}  // namespace
}  // namespace latentd
