#include "server/metrics.h"

#include <gmock/gmock.h>

#include "server/generation.h"
#include "server/wall_clock.h"

namespace latentd {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class MetricsTest : public ::testing::Test {
 protected:
  void set_engine() {
    EngineInfo info;
    info.device = "cpu";
    info.page_tokens = 16;
    info.num_pages = 10;
    info.kv_bytes_per_token = 640;
    EngineStats stats;
    stats.scheduler.num_running = 2;
    stats.scheduler.num_waiting = 3;
    stats.mailbox_depth = 4;
    stats.scheduler.generated_tokens = 99;
    stats.scheduler.blocks.total = 10;
    stats.scheduler.blocks.used = 3;
    stats.scheduler.blocks.promised = 2;
    stats.scheduler.blocks.cached = 1;
    stats.scheduler.blocks.free = 6;
    metrics_.set_engine("m", info, [stats] { return stats; });
  }

  ServerState state_ = ServerState::kReady;
  Metrics metrics_{[this] { return state_; }};
};

constexpr const char* kLabels = R"({engine="0",model_name="m"})";

TEST_F(MetricsTest, SpeakBeforeTheEngineIsThere) {
  state_ = ServerState::kLoading;
  const std::string text = metrics_.scrape();
  EXPECT_THAT(text, HasSubstr(R"(latentd_state{state="loading"} 1)"));
  EXPECT_THAT(text, HasSubstr(R"(latentd_state{state="ready"} 0)"));
  EXPECT_THAT(text, HasSubstr("latentd_build_info{version="));
  EXPECT_THAT(text, Not(HasSubstr("num_requests_running")));
  metrics_.observe_first_token(1.0);  // nobody to count it for: ignored
}

TEST_F(MetricsTest, PublishTheEnginesSnapshotUnderBothNames) {
  set_engine();
  const std::string text = metrics_.scrape();
  for (const std::string prefix : {"latentd_", "vllm:"}) {
    EXPECT_THAT(text, HasSubstr("\n" + prefix + "num_requests_running" + kLabels + " 2\n"));
    EXPECT_THAT(text, HasSubstr("\n" + prefix + "num_requests_waiting" + kLabels + " 7\n"));
    EXPECT_THAT(text, HasSubstr("\n" + prefix + "kv_cache_usage_perc" + kLabels + " 0.5\n"));
    EXPECT_THAT(text, HasSubstr("\n" + prefix + "generation_tokens_total" + kLabels + " 99\n"));
    EXPECT_THAT(text, HasSubstr("# TYPE " + prefix + "prompt_tokens_total counter"));
    EXPECT_THAT(text, HasSubstr("# TYPE " + prefix + "time_to_first_token_seconds histogram"));
    EXPECT_THAT(text, HasSubstr("# TYPE " + prefix + "inter_token_latency_seconds histogram"));
    EXPECT_THAT(text, HasSubstr(prefix + "cache_config_info"));
    EXPECT_THAT(text, HasSubstr(prefix + "request_success_total"));
  }
  EXPECT_THAT(text, HasSubstr(R"(latentd_kv_pages{engine="0",model_name="m",state="used"} 3)"));
  EXPECT_THAT(text, HasSubstr(std::string("latentd_kv_bytes_per_token") + kLabels + " 640"));
}

TEST_F(MetricsTest, SayWhenACertificateEndsWhereThereIsOne) {
  constexpr const char* kName = "latentd_certificate_expiry_timestamp_seconds";
  EXPECT_THAT(metrics_.scrape(), Not(HasSubstr(kName)));
  metrics_.set_certificate_expiry(2'000'000'000);
  EXPECT_THAT(metrics_.scrape(), HasSubstr(std::string(kName) + " 2000000000\n"));
}

TEST_F(MetricsTest, CountTokensOfStepsInBuckets) {
  EngineStats stats;
  for (const int tokens : {1, 3, 8, 512, 100'000}) stats.step_tokens.observe(tokens);
  metrics_.set_engine("m", EngineInfo(), [stats] { return stats; });
  const std::string text = metrics_.scrape();
  for (const std::string prefix : {"latentd_", "vllm:"}) {
    const std::string bucket =
        "\n" + prefix + R"(iteration_tokens_total_bucket{engine="0",model_name="m",le=")";
    EXPECT_THAT(text, HasSubstr("# TYPE " + prefix + "iteration_tokens_total histogram"));
    EXPECT_THAT(text, HasSubstr(bucket + "1\"} 1\n"));
    EXPECT_THAT(text, HasSubstr(bucket + "8\"} 3\n"));
    EXPECT_THAT(text, HasSubstr(bucket + "256\"} 3\n"));
    EXPECT_THAT(text, HasSubstr(bucket + "16384\"} 4\n"));
    EXPECT_THAT(text, HasSubstr(bucket + "+Inf\"} 5\n"));
    EXPECT_THAT(
        text, HasSubstr(prefix + "iteration_tokens_total_sum" + std::string(kLabels) + " 100524"));
  }
}

TEST_F(MetricsTest, CountWhatTenantsTake) {
  Usage usage;
  usage.prompt_tokens = 5;
  usage.completion_tokens = 2;
  usage.cost.kv_byte_seconds = 0.5;
  metrics_.count_tenant("search", usage);
  metrics_.count_tenant("search", usage);
  metrics_.count_tenant("", usage);
  const std::string text = metrics_.scrape();
  EXPECT_THAT(text, HasSubstr(R"(latentd_tenant_requests_total{tenant="search"} 2)"));
  EXPECT_THAT(text, HasSubstr(R"(latentd_tenant_requests_total{tenant="default"} 1)"));
  EXPECT_THAT(text, HasSubstr(R"(latentd_tenant_tokens_total{kind="prompt",tenant="search"} 10)"));
  EXPECT_THAT(text, HasSubstr(R"(latentd_tenant_tokens_total{kind="output",tenant="search"} 4)"));
  EXPECT_THAT(text, HasSubstr(R"(latentd_tenant_kv_byte_seconds_total{tenant="search"} 1)"));
}

TEST_F(MetricsTest, SayWhenTheProcessBegan) {
  const std::string text = metrics_.scrape();
  const std::string name = "\nprocess_start_time_seconds ";
  const auto at = text.find(name);
  ASSERT_NE(at, std::string::npos);
  const double start = std::stod(text.substr(at + name.size()));
  EXPECT_LE(start, wall_seconds_now());
  EXPECT_GT(start, wall_seconds_now() - 3600.0);
  EXPECT_THAT(text, HasSubstr("\nprocess_max_fds "));
  EXPECT_THAT(text, HasSubstr("\nprocess_virtual_memory_bytes "));
}

TEST_F(MetricsTest, CountWhatHappens) {
  set_engine();
  metrics_.count_prompt_tokens(11);
  metrics_.observe_first_token(0.0015);
  metrics_.observe_inter_token(0.003);
  metrics_.observe_finished("stop", 0.5, 11, 3);
  metrics_.count_rejected("queue_full");
  metrics_.count_cancelled("disconnect");
  metrics_.count_auth_failure("grpc");
  const std::string text = metrics_.scrape();
  EXPECT_THAT(text, HasSubstr(std::string("vllm:prompt_tokens_total") + kLabels + " 11\n"));
  EXPECT_THAT(text,
              HasSubstr(std::string("vllm:time_to_first_token_seconds_count") + kLabels + " 1\n"));
  EXPECT_THAT(
      text,
      HasSubstr(
          R"(vllm:inter_token_latency_seconds_bucket{engine="0",model_name="m",le="0.004"} 1)"));
  EXPECT_THAT(
      text,
      HasSubstr(
          R"(vllm:request_success_total{engine="0",model_name="m",finished_reason="stop"} 1)"));
  EXPECT_THAT(text, HasSubstr(R"(latentd_requests_rejected_total{reason="queue_full"} 1)"));
  EXPECT_THAT(text, HasSubstr(R"(latentd_requests_cancelled_total{cause="disconnect"} 1)"));
  EXPECT_THAT(text, HasSubstr(R"(latentd_auth_failures_total{door="grpc"} 1)"));
}

}  // namespace
}  // namespace latentd
