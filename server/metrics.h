// Metrics: what Prometheus scrapes.
//
// `latentd_*` names are the truth; those that have a counterpart in vLLM are emitted under its name
// too ("vllm:num_requests_running"), so that public dashboards, autoscalers and routers work
// unchanged. Engine figures are read from its snapshot at scrape time; the rest is counted where it
// happens. Labels never hold text of a request.
//
// Contract: every method from any thread, none blocks for long.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "server/server_state.h"

namespace latentd {

// A histogram as it stands: counts[i] observations were at most bounds[i]; the last bound is
// infinite.
struct HistogramSnapshot {
  const char* name = "";
  std::vector<double> bounds;
  std::vector<std::uint64_t> counts;
};

struct Usage;

class Metrics final {
 public:
  // `state` is asked at scrape time.
  explicit Metrics(std::function<ServerState()> state);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // Once, when the engine is loaded: what engine figures are labelled with, and where they come
  // from. `stats` may be called until the last scrape.
  void set_engine(const std::string& model_name, const EngineInfo& info,
                  std::function<EngineStats()> stats);

  void count_prompt_tokens(int tokens);
  void observe_queue_time(double seconds);    // from arrival to a slot
  void observe_first_token(double seconds);   // from arrival
  void observe_prefill_time(double seconds);  // from a slot to the first token
  void observe_decode_time(double seconds);   // from the first token to the end
  void observe_inter_token(double seconds);
  // One choice has ended: "stop", "length", "abort" or "error".
  void observe_finished(std::string_view reason, double seconds, int prompt_tokens,
                        int generated_tokens);

  void count_rejected(
      std::string_view reason);  // "queue_full", "unavailable", "invalid", "key_limit"
  void count_cancelled(std::string_view cause);    // "disconnect", "abort", "slow_reader"
  void count_auth_failure(std::string_view door);  // "http", "grpc"
  // Seconds since 1970; there is no such figure before the first call.
  void set_certificate_expiry(std::int64_t unix_seconds);
  // What a generation took, by the tenant of its key: names come from the operator's key file
  // alone; "default" stands for keys of no tenant and for no keys.
  void count_tenant(const std::string& tenant, const Usage& usage);
  // Spans of requests that a collector has taken, and that none has: "queue_full",
  // "export_failed", "rejected" (by the collector).
  void count_spans_exported(int spans);
  void count_spans_dropped(std::string_view reason, int spans);
  void count_device_error(std::string_view kind);  // "fatal": the engine cannot go on

  // "first_token", "inter_token", "request" and "queue", in seconds; empty while loading.
  std::vector<HistogramSnapshot> latencies();

  // The text exposition format, version 0.0.4.
  std::string scrape();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace latentd
