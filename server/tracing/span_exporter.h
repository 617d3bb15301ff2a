// SpanExporter: sends what was answered to an OpenTelemetry collector, by OTLP over gRPC.
//
//   any thread -> bounded queue -> one thread of its own: batches -> Export
//
// A request never waits for it: what finds the queue full is dropped. A batch that the collector
// does not take is tried again with growing pauses, then dropped. Everything dropped is counted
// (Metrics::count_spans_dropped).
//
// Contract: push from any thread, never blocks. close once, or the destructor: sends what is queued
// for at most `limit`, then drops the rest; later pushes are dropped. `metrics` outlives it.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "server/tracing/request_span.h"

namespace latentd {

class Metrics;

struct SpanExportOptions {
  std::string endpoint;           // "host:port", "http://host:port", "https://host:port"
  std::filesystem::path ca_file;  // PEM, for https; empty: gRPC's own roots
  std::vector<std::pair<std::string, std::string>> headers;  // sent with every call
  std::size_t queue_capacity = 4096;                         // requests
  std::size_t batch = 256;                                   // requests of one call
  Duration gather = std::chrono::milliseconds(500);          // what a batch waits for others
  Duration call_limit = std::chrono::seconds(5);             // of one call
  Duration first_pause = std::chrono::seconds(1);            // doubled after each failure
  int attempts = 4;
};

// "host:port" of an endpoint, and whether it is encrypted. kInvalidArgument when it is neither of
// the forms above.
struct SpanEndpoint {
  std::string address;
  bool tls = false;
};
Result<SpanEndpoint> parse_span_endpoint(const std::string& endpoint);

// "name=value" as gRPC sends it: the name in lower case, the value percent-decoded (as that of
// OTEL_EXPORTER_OTLP_HEADERS, so that it can hold a comma), no spaces around either.
// kInvalidArgument when it cannot be sent.
Result<std::pair<std::string, std::string>> parse_span_header(const std::string& header);

class SpanExporter final {
 public:
  // Connects when there is something to send. Errors: kInvalidArgument (endpoint), kNotFound (the
  // file of authorities cannot be read).
  static Result<std::unique_ptr<SpanExporter>> start(const SpanExportOptions& options,
                                                     Metrics& metrics);
  ~SpanExporter();
  SpanExporter(const SpanExporter&) = delete;
  SpanExporter& operator=(const SpanExporter&) = delete;

  void push(RequestSpan span);
  void close(Duration limit);

 private:
  struct State;
  explicit SpanExporter(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace latentd
