#include "server/frontend.h"

#include <spdlog/fmt/fmt.h>

namespace latentd {

Frontend::Frontend(const FrontendOptions& options)
    : metrics_([this] { return state(); }),
      keys_(options.api_keys),
      intake_(options.max_queue),
      seeds_(std::random_device{}()),
      egress_(options.egress_threads,
              [this](RequestId id) { port_.cancel(id, FinishReason::kCancelled); }),
      text_pool_(options.text_threads) {}

Frontend::~Frontend() = default;

void Frontend::close() {
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
  model_view_.store(model_.get(), std::memory_order_release);
  // A drain that began while loading stays one.
  ServerState loading = ServerState::kLoading;
  state_.compare_exchange_strong(loading, ServerState::kReady);
}

Result<IntakeSlot> Frontend::reserve() {
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
  return slot;
}

std::uint64_t Frontend::random_seed() {
  std::lock_guard lock(mutex_);
  return seeds_();
}

std::vector<std::unique_ptr<Request>> Frontend::make_requests(PreparedGeneration& prepared,
                                                              GenerationId id) {
  const std::uint64_t seed = prepared.request.seed ? 0 : random_seed();
  std::vector<std::unique_ptr<Request>> requests;
  requests.reserve(static_cast<std::size_t>(prepared.num_choices()));
  for (int choice = 0; choice < prepared.num_choices(); ++choice) {
    requests.push_back(
        make_engine_request(prepared, *model(), choice, request_id(id, choice), seed));
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
  const GenerationId id(next_generation_.fetch_add(1, std::memory_order_relaxed));
  if (!client_id.empty()) {
    {
      std::lock_guard lock(mutex_);
      alive_.emplace(client_id, id);
    }
    sink = [this, id, client_id, inner = std::move(sink)](GenerationUpdate update) {
      if (update.done) forget(client_id, id);
      inner(std::move(update));
    };
  }
  auto requests = make_requests(prepared, id);
  egress_.add(std::make_unique<Generation>(id, std::move(prepared), *model(), metrics_,
                                           std::move(slot), std::move(sink), arrival));
  if (Status status = submit_all(std::move(requests)); !status.ok()) {
    egress_.remove(id);
    if (!client_id.empty()) forget(client_id, id);
    metrics_.count_rejected(status.code() == StatusCode::kInvalidArgument     ? "invalid"
                            : status.code() == StatusCode::kResourceExhausted ? "queue_full"
                                                                              : "unavailable");
    return status;
  }
  return id;
}

void Frontend::forget(const std::string& client_id, GenerationId id) {
  std::lock_guard lock(mutex_);
  const auto [first, last] = alive_.equal_range(client_id);
  for (auto it = first; it != last; ++it) {
    if (it->second != id) continue;
    alive_.erase(it);
    return;
  }
}

void Frontend::cancel(GenerationId id, std::string_view cause) {
  metrics_.count_cancelled(cause);
  egress_.cancel(id);
}

int Frontend::abort(const std::string& client_id) {
  std::vector<GenerationId> ids;
  {
    std::lock_guard lock(mutex_);
    const auto [first, last] = alive_.equal_range(client_id);
    for (auto it = first; it != last; ++it) ids.push_back(it->second);
  }
  for (const GenerationId id : ids) cancel(id, "abort");
  return static_cast<int>(ids.size());
}

bool Frontend::is_alive(const std::string& client_id) const {
  std::lock_guard lock(mutex_);
  return alive_.contains(client_id);
}

}  // namespace latentd
