#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "server/http/console_assets.h"
#include "server/http/console_state.h"
#include "tests/server/test_model.h"

namespace latentd {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class ConsoleTest : public ::testing::Test {
 protected:
  ~ConsoleTest() override { frontend_.close(); }

  void set_ready() {
    EngineStats stats;
    stats.scheduler.num_running = 2;
    stats.scheduler.num_waiting = 1;
    stats.mailbox_depth = 3;
    stats.scheduler.generated_tokens = 77;
    stats.scheduler.blocks.total = 10;
    PageMap map;
    map.runs = {{PageState::kShared, 2},
                {PageState::kPrivate, 1},
                {PageState::kFree, 6},
                {PageState::kCached, 1}};
    map.time = steady_now();
    frontend_.set_ready(
        testing::make_test_model(),
        {[](std::unique_ptr<Request>) { return ok_status(); }, [](RequestId, FinishReason) {},
         [stats] { return stats; }, [map] { return map; }});
  }

  nlohmann::json state() { return nlohmann::json::parse(console_state(frontend_, nullptr).body); }

  Frontend frontend_{{.api_keys = {}, .max_queue = 4}};
};

TEST_F(ConsoleTest, SaysThatTheModelIsLoading) {
  const auto json = state();
  EXPECT_EQ(json["state"], "loading");
  EXPECT_TRUE(json["model"].is_null());
  EXPECT_TRUE(json["requests"].empty());
}

TEST_F(ConsoleTest, ShowsTheEngineThePagesAndTheLatencies) {
  set_ready();
  frontend_.metrics().observe_first_token(0.003);
  const auto json = state();
  EXPECT_EQ(json["load"]["running"], 2);
  EXPECT_EQ(json["load"]["waiting"], 4) << "the mailbox waits too";
  EXPECT_EQ(json["load"]["generated_tokens"], 77);
  EXPECT_EQ(json["pages"]["map"], "s2p1f6c1");
  EXPECT_EQ(json["pages"]["free"], 6);
  EXPECT_EQ(json["pages"]["shared"], 2);
  EXPECT_EQ(json["pages"]["private"], 1);
  EXPECT_EQ(json["pages"]["cached"], 1);
  const auto& latency = json["latency"]["first_token"];
  EXPECT_EQ(latency["counts"].size(), latency["le"].size() + 1) << "the infinite bound has no le";
  EXPECT_EQ(latency["counts"].back(), 1);
  EXPECT_EQ(latency["counts"].front(), 0);
}

TEST_F(ConsoleTest, ListsRequestsWithTheirCost) {
  set_ready();
  RequestRecord record;
  record.request_id = "mine\"<b>";
  record.call = "Generate";
  record.status = "OK";
  record.usage.completion_tokens = 5;
  record.usage.cost.kv_byte_seconds = 12.5;
  frontend_.remember(record);
  const auto request = state()["requests"][0];
  EXPECT_EQ(request["id"], "mine\"<b>");
  EXPECT_EQ(request["completion_tokens"], 5);
  EXPECT_EQ(request["kv_byte_seconds"], 12.5);
}

TEST(ConsoleAssets, CarryAPolicyThatLetsInNothingElse) {
  for (const Route route :
       {Route::kConsole, Route::kConsoleStyle, Route::kConsoleScript, Route::kConsoleIcon}) {
    const HttpReply reply = console_asset(route);
    EXPECT_FALSE(reply.body.empty());
    ASSERT_EQ(reply.headers.front().first, "Content-Security-Policy");
    EXPECT_THAT(reply.headers.front().second, HasSubstr("default-src 'none'"));
    EXPECT_THAT(reply.headers.front().second, Not(HasSubstr("unsafe")));
  }
  EXPECT_THAT(console_asset(Route::kConsole).body, HasSubstr("<!doctype html>"));
}

}  // namespace
}  // namespace latentd
