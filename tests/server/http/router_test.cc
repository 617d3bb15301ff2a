#include "server/http/router.h"

#include <gtest/gtest.h>

namespace latentd {
namespace {

TEST(Router, KnowsItsRoutesWhateverTheQuery) {
  EXPECT_EQ(match_route("/v1/completions").route, Route::kCompletions);
  EXPECT_EQ(match_route("/v1/models?x=1").route, Route::kModels);
  EXPECT_EQ(match_route("/metrics").route, Route::kMetrics);
  EXPECT_EQ(match_route("/openapi.json").route, Route::kOpenApi);
  EXPECT_EQ(match_route("/healthz").route, Route::kHealthz);
  EXPECT_EQ(path_of("/a/b?c=/d"), "/a/b");
}

TEST(Router, TakesTargetsInAbsoluteForm) {
  EXPECT_EQ(match_route("http://host/v1/completions").route, Route::kCompletions);
  EXPECT_EQ(match_route("HTTPS://user@[::1]:8000/v1/models/a/b?x=/").model, "a/b");
  EXPECT_EQ(match_route("http://host").route, Route::kConsole);
  EXPECT_EQ(match_route("http://host?x=/metrics").route, Route::kConsole);
  EXPECT_EQ(path_of("http://host/a/b?c"), "/a/b");
  EXPECT_TRUE(match_route("http://healthz/v1/models").needs_key);
  EXPECT_TRUE(match_route("http://host/http://host/healthz").needs_key);
  // Without a host, of another scheme, and what only looks like a scheme.
  EXPECT_EQ(match_route("http:///healthz").route, Route::kUnknown);
  EXPECT_EQ(match_route("ftp://host/healthz").route, Route::kUnknown);
  EXPECT_EQ(match_route("http:/healthz").route, Route::kUnknown);
  EXPECT_EQ(match_route("").route, Route::kUnknown);
  EXPECT_EQ(match_route("?x").route, Route::kUnknown);
}

TEST(Router, TakesModelIdsWithSlashesAndEscapes) {
  EXPECT_EQ(match_route("/v1/models/org/name").model, "org/name");
  EXPECT_EQ(match_route("/v1/models/org%2Fna%20me").model, "org/na me");
  EXPECT_EQ(match_route("/v1/models/").route, Route::kUnknown);
}

TEST(Router, AsksForAKeyByDefault) {
  EXPECT_FALSE(match_route("/healthz").needs_key);
  EXPECT_FALSE(match_route("/readyz").needs_key);
  EXPECT_FALSE(match_route("/version").needs_key);
  EXPECT_TRUE(match_route("/metrics").needs_key);
  EXPECT_TRUE(match_route("/v1/models").needs_key);
  EXPECT_TRUE(match_route("/no/such/path").needs_key);
  // Decided on the decoded path, which picks the route: no spelling reaches a route keyless.
  EXPECT_TRUE(match_route("/v1%2Fcompletions").needs_key);
  EXPECT_EQ(match_route("/v1%2Fcompletions").route, Route::kCompletions);
  EXPECT_TRUE(match_route("/healthz/../v1/completions").needs_key);
  EXPECT_EQ(match_route("/healthz/../v1/completions").route, Route::kUnknown);
}

TEST(Router, ShowsTheConsoleToEverybodyAndItsFiguresToKeysAlone) {
  EXPECT_EQ(match_route("/").route, Route::kConsole);
  EXPECT_FALSE(match_route("/").needs_key);
  EXPECT_FALSE(match_route("/console/console.js").needs_key);
  EXPECT_EQ(match_route("/console/state").route, Route::kConsoleState);
  EXPECT_TRUE(match_route("/console/state").needs_key);
  EXPECT_TRUE(match_route("/console/").needs_key);
  EXPECT_FALSE(makes_text(Route::kTokenize));
  EXPECT_TRUE(makes_text(Route::kChatCompletions));
}

TEST(Router, RefusesBrokenEscapes) {
  EXPECT_EQ(match_route("/v1/models/a%2").route, Route::kUnknown);
  EXPECT_EQ(match_route("/v1/models/a%zz").route, Route::kUnknown);
  EXPECT_EQ(match_route("/v1/models/a%00b").route, Route::kUnknown);
}

TEST(Router, KnowsTheMethodsOfARoute) {
  EXPECT_TRUE(match_route("/v1/models").allows("GET"));
  EXPECT_TRUE(match_route("/v1/models").allows("HEAD"));
  EXPECT_FALSE(match_route("/v1/models").allows("POST"));
  EXPECT_FALSE(match_route("/v1/models").allows("GET, HEAD"));
  EXPECT_TRUE(match_route("/v1/completions").allows("POST"));
  EXPECT_FALSE(match_route("/v1/completions").allows("GET"));
  EXPECT_FALSE(match_route("/nowhere").allows("GET"));
}

}  // namespace
}  // namespace latentd
