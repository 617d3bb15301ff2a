#include "server/tracing/span_exporter.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <deque>
#include <mutex>

#include "opentelemetry/trace_service.grpc.pb.h"
#include "server/metrics.h"
#include "server/tracing/otlp_spans.h"

namespace latentd {
namespace {

using ::testing::HasSubstr;

// A collector on a free port. What it answers is scripted; then it takes everything.
class Collector final : public otlp::TraceService::Service {
 public:
  Collector() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~Collector() override {
    hold(false);
    server_->Shutdown();
  }

  std::string endpoint() const { return "127.0.0.1:" + std::to_string(port_); }

  void answer_next(grpc::Status status, int rejected = 0) {
    std::lock_guard lock(mutex_);
    script_.emplace_back(std::move(status), rejected);
  }
  void hold(bool on) {
    std::lock_guard lock(mutex_);
    held_ = on;
    changed_.notify_all();
  }
  void wait_for_calls(int calls) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return calls_ >= calls; });
  }
  std::vector<std::string> names() {
    std::lock_guard lock(mutex_);
    return names_;
  }

 private:
  grpc::Status Export(grpc::ServerContext* context, const otlp::ExportTraceServiceRequest* request,
                      otlp::ExportTraceServiceResponse* response) override {
    std::unique_lock lock(mutex_);
    ++calls_;
    changed_.notify_all();
    while (held_ && !context->IsCancelled()) {
      changed_.wait_for(lock, std::chrono::milliseconds(5));
    }
    if (!script_.empty()) {
      const auto [status, rejected] = script_.front();
      script_.pop_front();
      if (!status.ok()) return status;
      response->mutable_partial_success()->set_rejected_spans(rejected);
    }
    for (const auto& span : request->resource_spans(0).scope_spans(0).spans()) {
      names_.push_back(span.name());
    }
    return grpc::Status::OK;
  }

  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::pair<grpc::Status, int>> script_;
  std::vector<std::string> names_;
  int calls_ = 0;
  bool held_ = false;
};

RequestSpan span_of(const std::string& model) {
  RequestSpan span;
  span.trace = start_trace(1.0);
  span.operation = "chat";
  span.model = model;
  span.request.status = "200";
  return span;
}

class SpanExporterTest : public ::testing::Test {
 protected:
  std::unique_ptr<SpanExporter> start(std::size_t batch = 256, std::size_t queue_capacity = 4096) {
    SpanExportOptions options;
    options.endpoint = collector_.endpoint();
    options.batch = batch;
    options.queue_capacity = queue_capacity;
    options.gather = std::chrono::milliseconds(1);
    options.call_limit = kLong;
    options.first_pause = std::chrono::milliseconds(1);
    auto exporter = SpanExporter::start(options, metrics_);
    EXPECT_TRUE(exporter.ok()) << exporter.status().to_string();
    return *std::move(exporter);
  }

  void expect_counted(int exported, const std::string& reason = "", int dropped = 0) {
    const std::string text = metrics_.scrape();
    EXPECT_THAT(
        text, HasSubstr("\nlatentd_otlp_spans_exported_total " + std::to_string(exported) + "\n"));
    for (const std::string each : {"queue_full", "export_failed", "rejected"}) {
      EXPECT_THAT(text, HasSubstr("latentd_otlp_spans_dropped_total{reason=\"" + each + "\"} " +
                                  std::to_string(each == reason ? dropped : 0) + "\n"));
    }
  }

  static constexpr Duration kLong = std::chrono::seconds(60);
  Metrics metrics_{[] { return ServerState::kReady; }};
  Collector collector_;
};

TEST_F(SpanExporterTest, SendsInOrderAndAtTheLatestWhenItCloses) {
  const auto exporter = start(2);
  for (const char* name : {"a", "b", "c", "d", "e"}) exporter->push(span_of(name));
  exporter->close(kLong);
  EXPECT_THAT(collector_.names(),
              ::testing::ElementsAre("chat a", "chat b", "chat c", "chat d", "chat e"));
  expect_counted(5);
}

TEST_F(SpanExporterTest, DropsWhatFindsTheQueueFullAndNeverWaits) {
  collector_.hold(true);
  const auto exporter = start(1, 3);
  exporter->push(span_of("under way"));
  collector_.wait_for_calls(1);
  for (int i = 0; i < 5; ++i) exporter->push(span_of("queued"));
  expect_counted(0, "queue_full", 2);
  collector_.hold(false);
  exporter->close(kLong);
  expect_counted(4, "queue_full", 2);
}

TEST_F(SpanExporterTest, TriesAgainWhatMayPass) {
  collector_.answer_next({grpc::StatusCode::UNAVAILABLE, "restarting"});
  collector_.answer_next({grpc::StatusCode::RESOURCE_EXHAUSTED, "busy"});
  const auto exporter = start();
  exporter->push(span_of("a"));
  collector_.wait_for_calls(3);
  exporter->close(kLong);
  expect_counted(1);
}

TEST_F(SpanExporterTest, GivesUpAtOnceOnWhatWillNotPass) {
  collector_.answer_next({grpc::StatusCode::UNAUTHENTICATED, "no"});
  const auto exporter = start();
  exporter->push(span_of("a"));
  collector_.wait_for_calls(1);
  exporter->push(span_of("b"));
  exporter->close(kLong);
  EXPECT_THAT(collector_.names(), ::testing::ElementsAre("chat b"));
  expect_counted(1, "export_failed", 1);
}

TEST_F(SpanExporterTest, CountsWhatTheCollectorRejects) {
  collector_.answer_next(grpc::Status::OK, 1);
  const auto exporter = start(3);
  exporter->push(span_of("a"));
  exporter->close(kLong);
  expect_counted(0, "rejected", 1);
}

TEST_F(SpanExporterTest, ClosesUnderACollectorThatHangs) {
  collector_.hold(true);
  const auto exporter = start(1);
  exporter->push(span_of("a"));
  exporter->push(span_of("b"));
  collector_.wait_for_calls(1);
  exporter->close(std::chrono::milliseconds(10));
  expect_counted(0, "export_failed", 2);
}

TEST_F(SpanExporterTest, NeedsAReadableFileOfAuthorities) {
  SpanExportOptions options;
  options.endpoint = "https://127.0.0.1:1";
  options.ca_file = "/no/such/file";
  const auto exporter = SpanExporter::start(options, metrics_);
  EXPECT_EQ(exporter.status().code(), StatusCode::kNotFound);
  EXPECT_EQ(exporter.status().field(), "otlp-ca-file");
}

TEST(SpanEndpoint, IsAnAddressWithAPort) {
  for (const char* endpoint :
       {"collector:4317", "http://collector:4317", "http://collector:4317/"}) {
    const auto parsed = parse_span_endpoint(endpoint);
    ASSERT_TRUE(parsed.ok()) << endpoint;
    EXPECT_EQ(parsed->address, "collector:4317");
    EXPECT_FALSE(parsed->tls);
  }
  EXPECT_TRUE(parse_span_endpoint("https://collector:443")->tls);
  EXPECT_EQ(parse_span_endpoint("[::1]:4317")->address, "[::1]:4317");
  for (const char* endpoint :
       {"", "collector", ":4317", "collector:", "collector:0", "collector:65536", "collector:x",
        "ftp://collector:1", "http://collector:4317/v1/traces"}) {
    EXPECT_EQ(parse_span_endpoint(endpoint).status().field(), "otlp-endpoint") << endpoint;
  }
}

TEST(SpanHeader, IsANameAndAValue) {
  const auto parsed = parse_span_header("Authorization=Basic a=b");
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->first, "authorization");
  EXPECT_EQ(parsed->second, "Basic a=b");
  EXPECT_EQ(parse_span_header(" key = a%2Cb%25 c ")->first, "key");
  EXPECT_EQ(parse_span_header(" key = a%2Cb%25 c ")->second, "a,b% c");
  EXPECT_EQ(parse_span_header("key=")->second, "");
  for (const char* header :
       {"", "name", "=value", "na me=v", "grpc-x=v", "x-bin=v", "x=\n", "x=5%", "x=%0A", "x=%zz"}) {
    const auto refused = parse_span_header(header);
    EXPECT_EQ(refused.status().field(), "otlp-header") << header;
  }
}

}  // namespace
}  // namespace latentd
