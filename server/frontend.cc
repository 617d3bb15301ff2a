#include "server/frontend.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>

namespace latentd {
namespace {

// One tenant cannot name what another has launched. A tenant's name has no line feed.
std::string scoped(const std::string& tenant, const std::string& client_id) {
  return tenant + "\n" + client_id;
}

}  // namespace

Frontend::Frontend(const FrontendOptions& options)
    : metrics_([this] { return state(); }),
      keys_(options.api_keys),
      stall_limit_(options.stall_limit),
      trace_sample_ratio_(options.trace_sample_ratio),
      limits_(options.limits),
      intake_(options.max_queue),
      seeds_(std::random_device{}()),
      prefix_feed_([this](std::function<void()> task) { text_pool_.post(std::move(task)); }),
      egress_(options.egress_threads,
              [this](RequestId id) { port_.cancel(id, FinishReason::kCancelled); }),
      text_pool_(options.text_threads) {}

Frontend::~Frontend() = default;

void Frontend::close() {
  prefix_feed_.close();
  text_pool_.close();
  egress_.close();
}

std::function<void(std::span<Event>)> Frontend::event_sink() {
  return [this](std::span<Event> events) { egress_.on_engine_events(events); };
}

void Frontend::set_ready(std::unique_ptr<const ServingModel> model, EnginePort port) {
  model_ = std::move(model);
  port_ = std::move(port);
  metrics_.set_engine(model_->name(), model_->info, port_.stats);
  prefix_feed_.set_engine(port_.watch_prefixes);
  model_view_.store(model_.get(), std::memory_order_release);
  // A drain that began while loading stays one.
  ServerState loading = ServerState::kLoading;
  state_.compare_exchange_strong(loading, ServerState::kReady);
}

int Frontend::retry_after_ms(const Caller& caller) {
  if (caller == nullptr) return kRetryAfterMs;
  const auto wait =
      std::chrono::duration_cast<std::chrono::milliseconds>(caller->wait(steady_now()));
  constexpr std::int64_t kLongest = 86'400'000;  // a day: a key may be overdrawn without bound
  return std::max(kRetryAfterMs,
                  static_cast<int>(std::min<std::int64_t>(wait.count(), kLongest)) + 1);
}

Result<IntakeSlot> Frontend::reserve(const Caller& caller) {
  const ServerState now = state();
  if (now == ServerState::kLoading || model() == nullptr) {
    metrics_.count_rejected("unavailable");
    return Status(StatusCode::kUnavailable, "the model is loading");
  }
  if (now == ServerState::kFailed) {
    metrics_.count_rejected("unavailable");
    return Status(StatusCode::kUnavailable, "the engine has failed");
  }
  if (!accepting_) {
    metrics_.count_rejected("unavailable");
    return Status(StatusCode::kUnavailable, "the server is shutting down");
  }
  IntakeSlot slot = intake_.try_take();
  if (!slot) {
    metrics_.count_rejected("queue_full");
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("too many requests: {} are waiting or running", intake_.capacity()));
  }
  if (caller == nullptr) return slot;
  auto use = caller->begin(steady_now());
  if (!use.ok()) {
    metrics_.count_rejected("key_limit");
    return use.status();
  }
  slot.hold(*std::move(use));
  return slot;
}

std::uint64_t Frontend::random_seed() {
  std::lock_guard lock(mutex_);
  return seeds_();
}

std::vector<std::unique_ptr<Request>> Frontend::make_requests(PreparedGeneration& prepared,
                                                              GenerationId id, std::uint64_t salt) {
  const std::uint64_t seed = prepared.request.seed ? 0 : random_seed();
  std::vector<std::unique_ptr<Request>> requests;
  requests.reserve(static_cast<std::size_t>(prepared.num_choices()));
  for (int choice = 0; choice < prepared.num_choices(); ++choice) {
    requests.push_back(
        make_engine_request(prepared, *model(), choice, request_id(id, choice), seed));
    requests.back()->salt = salt;
  }
  return requests;
}

Status Frontend::submit_all(std::vector<std::unique_ptr<Request>> requests) {
  std::vector<RequestId> taken;
  for (auto& request : requests) {
    taken.push_back(request->id);
    Status status = port_.submit(std::move(request));
    if (status.ok()) continue;
    taken.pop_back();
    for (const RequestId id : taken) port_.cancel(id, FinishReason::kCancelled);
    return status;
  }
  return ok_status();
}

Result<GenerationId> Frontend::launch(PreparedGeneration prepared, IntakeSlot slot,
                                      const std::string& client_id, UpdateSink sink,
                                      TimePoint arrival) {
  if (!slot.grow(prepared.num_choices() - 1)) {
    metrics_.count_rejected("queue_full");
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("too many requests: {} are waiting or running", intake_.capacity()));
  }
  const Caller caller = slot.caller();
  const std::string tenant = tenant_of(caller);
  const std::string name = client_id.empty() ? "" : scoped(tenant, client_id);
  if (caller != nullptr) {
    prepared.request.priority = caller->priority_of(prepared.request.priority);
  }
  std::size_t prompt_tokens = 0;
  for (const auto& input : prepared.inputs) prompt_tokens += input.tokens.size();
  const GenerationId id(next_generation_.fetch_add(1, std::memory_order_relaxed));
  if (!name.empty()) {
    {
      std::lock_guard lock(mutex_);
      alive_.emplace(name, id);
    }
    sink = [this, id, name, inner = std::move(sink)](GenerationUpdate update) {
      if (update.done) forget(name, id);
      inner(std::move(update));
    };
  }
  auto requests = make_requests(prepared, id, prefix_salt_.of(tenant, prepared.request.cache_salt));
  egress_.add(std::make_unique<Generation>(id, std::move(prepared), *model(), metrics_,
                                           std::move(slot), std::move(sink), arrival));
  if (Status status = submit_all(std::move(requests)); !status.ok()) {
    egress_.remove(id);
    if (!name.empty()) forget(name, id);
    metrics_.count_rejected(status.code() == StatusCode::kInvalidArgument     ? "invalid"
                            : status.code() == StatusCode::kResourceExhausted ? "queue_full"
                                                                              : "unavailable");
    return status;
  }
  if (caller != nullptr) {
    caller->charge_tokens(static_cast<int>(prompt_tokens), steady_now());
  }
  return id;
}

void Frontend::forget(const std::string& name, GenerationId id) {
  std::lock_guard lock(mutex_);
  const auto [first, last] = alive_.equal_range(name);
  for (auto it = first; it != last; ++it) {
    if (it->second != id) continue;
    alive_.erase(it);
    return;
  }
}

void Frontend::remember(RequestRecord record) {
  metrics_.count_tenant(record.tenant, record.usage);
  recent_.add(std::move(record));
}

std::optional<TraceContext> Frontend::trace_of(std::string_view traceparent) const {
  auto trace = parse_traceparent(traceparent);
  if (!trace && span_exporter_ != nullptr) trace = start_trace(trace_sample_ratio_);
  return trace;
}

void Frontend::export_span(const std::optional<TraceContext>& trace, SpanDoor door,
                           std::string_view operation, const RequestRecord& record) {
  if (span_exporter_ == nullptr || !trace || !trace->sampled()) return;
  const ServingModel* served = model();
  span_exporter_->push({*trace, door, operation, served == nullptr ? "" : served->name(), record});
}

void Frontend::cancel(GenerationId id, std::string_view cause) {
  metrics_.count_cancelled(cause);
  egress_.cancel(id);
}

int Frontend::abort(const Caller& caller, const std::string& client_id) {
  std::vector<GenerationId> ids;
  {
    std::lock_guard lock(mutex_);
    const auto [first, last] = alive_.equal_range(scoped(tenant_of(caller), client_id));
    for (auto it = first; it != last; ++it) ids.push_back(it->second);
  }
  for (const GenerationId id : ids) cancel(id, "abort");
  return static_cast<int>(ids.size());
}

bool Frontend::is_alive(const Caller& caller, const std::string& client_id) const {
  std::lock_guard lock(mutex_);
  return alive_.contains(scoped(tenant_of(caller), client_id));
}

}  // namespace latentd
