// Frontend: what both doors stand on. It knows the state of the server and the model, gives out
// places, prepares and launches generations, and brings their updates back.
//
//   reserve -> post { parse, prepare, launch } -> updates on egress threads -> sink
//
// Contract: any thread unless said otherwise. Created before the doors and destroyed after them,
// and after the engine.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "server/api_keys.h"
#include "server/egress.h"
#include "server/generation.h"
#include "server/intake.h"
#include "server/metrics.h"
#include "server/prefix_feed.h"
#include "server/prefix_salt.h"
#include "server/recent_requests.h"
#include "server/request_limits.h"
#include "server/server_state.h"
#include "server/serving_model.h"
#include "server/task_pool.h"
#include "server/tracing/span_exporter.h"

namespace latentd {

// When to come back after being shed: `retry-after-ms` and `grpc-retry-pushback-ms`.
inline constexpr int kRetryAfterMs = 1000;

struct FrontendOptions {
  std::vector<std::string> api_keys;
  int max_queue = 1024;
  int text_threads = 2;
  int egress_threads = 1;
  Duration stall_limit = std::chrono::seconds(30);
  double trace_sample_ratio = 1.0;  // of requests that belong to no trace yet
  RequestLimits limits = {};
};

class Frontend final {
 public:
  explicit Frontend(const FrontendOptions& options);
  ~Frontend();
  Frontend(const Frontend&) = delete;
  Frontend& operator=(const Frontend&) = delete;

  // --- the life of the server: one thread, main's ---
  // The sink for Engine::load; valid as long as the frontend.
  std::function<void(std::span<Event>)> event_sink();
  void set_ready(std::unique_ptr<const ServingModel> model, EnginePort port);
  void set_draining() { state_ = ServerState::kDraining; }
  void set_failed() { state_ = ServerState::kFailed; }
  // From now on reserve answers kUnavailable.
  void stop_accepting() { accepting_ = false; }
  // Finishes text work and tells every sink what it has to hear; no sink is called afterwards. Call
  // it when the engine has stopped and before the doors go.
  void close();
  int in_house() const { return intake_.taken(); }
  int max_in_house() const { return intake_.capacity(); }

  // From now on requests are traced. Before the doors open; `exporter` stays until they have
  // closed.
  void set_span_exporter(SpanExporter* exporter) { span_exporter_ = exporter; }

  // --- for the doors ---
  // A reader that takes nothing for so long is given up.
  Duration stall_limit() const { return stall_limit_; }
  const RequestLimits& limits() const { return limits_; }
  ServerState state() const { return state_; }
  bool ready() const { return state() == ServerState::kReady; }
  // Null while loading; from then on always the same.
  const ServingModel* model() const { return model_view_.load(std::memory_order_acquire); }
  ApiKeys& keys() { return keys_; }
  // REQUIRES: model() is not null.
  EngineStats engine_stats() const { return port_.stats(); }
  const ApiKeys& keys() const { return keys_; }
  Metrics& metrics() { return metrics_; }
  const RecentRequests& recent() const { return recent_; }
  // A generation has been answered, well or not.
  void remember(RequestRecord record);
  // The trace of a call that generates, by its `traceparent`; a new one, without such a header, if
  // somebody collects spans.
  std::optional<TraceContext> trace_of(std::string_view traceparent) const;
  // Such a call has been answered or refused: its span goes out if its trace is sampled.
  void export_span(const std::optional<TraceContext>& trace, SpanDoor door,
                   std::string_view operation, const RequestRecord& record);
  // The engine as it is now. REQUIRES: model() is there.
  const EnginePort& engine() const { return port_; }

  // A place in the house, before any work is done. kUnavailable (loading, draining, failed) or
  // kResourceExhausted (full, or a limit of the caller's key: come back in retry_after_ms).
  Result<IntakeSlot> reserve(const Caller& caller);
  static int retry_after_ms(const Caller& caller);

  // Runs `task` on the text pool.
  template <typename Task>
  void post(Task task) {
    text_pool_.post(std::move(task));
  }

  // Hands a prepared generation to the engine. `sink` hears of it on an egress thread, even before
  // this returns; not at all when this fails. `client_id` names it for abort(). The slot's key sets
  // its priority and whose prefix cache it shares. Errors: kResourceExhausted, kUnavailable,
  // kInvalidArgument (can never fit).
  Result<GenerationId> launch(PreparedGeneration prepared, IntakeSlot slot,
                              const std::string& client_id, UpdateSink sink, TimePoint arrival);

  // Ends a generation; `cause` as Metrics::count_cancelled. Its sink hears of the end.
  void cancel(GenerationId id, std::string_view cause);

  // What the prefix cache gains and loses; of it, what the caller's requests without a cache_salt
  // may meet is salted so. REQUIRES: model() is there.
  PrefixFeed& prefix_feed() { return prefix_feed_; }
  std::uint64_t prefix_salt(const Caller& caller) const {
    return prefix_salt_.of(tenant_of(caller), "");
  }

  // Ends all generations that the caller's tenant launched with `client_id`; how many there were.
  int abort(const Caller& caller, const std::string& client_id);
  bool is_alive(const Caller& caller, const std::string& client_id) const;

 private:
  std::uint64_t random_seed();
  void forget(const std::string& name, GenerationId id);
  std::vector<std::unique_ptr<Request>> make_requests(PreparedGeneration& prepared, GenerationId id,
                                                      std::uint64_t salt);
  Status submit_all(std::vector<std::unique_ptr<Request>> requests);

  std::atomic<ServerState> state_{ServerState::kLoading};
  std::atomic<bool> accepting_{true};
  Metrics metrics_;
  ApiKeys keys_;
  const Duration stall_limit_;
  const double trace_sample_ratio_;
  SpanExporter* span_exporter_ = nullptr;  // null: nobody collects spans
  const RequestLimits limits_;
  RecentRequests recent_;
  Intake intake_;

  std::unique_ptr<const ServingModel> model_;
  EnginePort port_;
  std::atomic<const ServingModel*> model_view_{nullptr};

  const PrefixSalt prefix_salt_;
  std::atomic<std::uint64_t> next_generation_{1};
  mutable std::mutex mutex_;
  std::unordered_multimap<std::string, GenerationId> alive_;  // guarded by mutex_; by tenant and id
  std::mt19937_64 seeds_;                                     // guarded by mutex_

  PrefixFeed prefix_feed_;
  Egress egress_;
  TaskPool text_pool_;  // last: its tasks use all of the above
};

}  // namespace latentd
