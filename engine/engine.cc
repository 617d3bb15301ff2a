#include "engine/engine.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "base/mailbox.h"
#include "engine/backend/op_params.h"
#include "engine/device.h"
#include "engine/load_model.h"
#include "engine/memory_plan.h"
#include "engine/model_runner.h"
#include "engine/step_loop.h"
#include "kvcache/block_manager.h"

namespace latentd {
namespace {

// How long the engine thread sleeps at most, so that its heartbeat stays fresh.
constexpr Duration kHeartbeat = std::chrono::seconds(1);
// How often the pages are mapped at most, for those who watch.
constexpr Duration kPageMapInterval = std::chrono::seconds(1);

// What is worth to be read once. On an H200 (docs/kernels.md) it is where it spares each of the
// device's processors three key tiles of 64, and no less: merging costs some microseconds a layer.
// Of the rows whose query vectors fill 64 rows of a product all but one are spared.
PrefixPolicy prefix_policy(const EngineOptions& options, const ModelConfig& config,
                           const Backend& backend) {
  if (!options.shared_prefixes) return {};
  const std::int64_t worth = std::int64_t{3} * backend.processors() * 64;
  const std::int64_t rows = 64 / config.num_heads;  // at least 2: resolve_device
  return {.max_depth = kMaxPrefixDepth,
          .min_rows = 2,
          .min_tokens = 256,
          .min_spared = worth * rows / (rows - 1)};
}

struct Cancel {
  RequestId id;
  FinishReason reason;
};
using Message = std::variant<std::unique_ptr<Request>, Cancel, PrefixSink>;

SchedulerOptions scheduler_options(const EngineOptions& options, const ModelConfig& config,
                                   const LoadedModel& model) {
  const MemoryPlan& plan = model.plan;
  SchedulerOptions scheduler;
  scheduler.max_num_seqs = plan.max_num_seqs;
  scheduler.max_num_batched_tokens = plan.max_num_batched_tokens;
  scheduler.max_model_len = plan.max_model_len;
  scheduler.pipeline_depth = plan.pipeline_depth;
  scheduler.prefix_cache = options.prefix_cache;
  scheduler.overcommit = options.overcommit;
  scheduler.prefixes = prefix_policy(options, config, *model.backend);
  return scheduler;
}

EngineInfo engine_info(const ModelConfig& config, const LoadedModel& model,
                       const EngineOptions& options) {
  const MemoryPlan& plan = model.plan;
  const Backend& backend = *model.backend;
  EngineInfo info;
  info.device = backend.device_name();
  info.activation_dtype = backend.activation_dtype();
  info.kv_cache_dtype = plan.layout.dtype();
  info.attention = attention_name(config);
  info.max_model_len = plan.max_model_len;
  info.max_num_seqs = plan.max_num_seqs;
  info.max_num_batched_tokens = plan.max_num_batched_tokens;
  info.page_tokens = plan.layout.page_tokens();
  info.num_pages = plan.num_pages;
  info.prefix_cache = options.prefix_cache;
  info.kv_bytes_per_token = plan.layout.bytes_per_token();
  info.mha_kv_bytes_per_token = mha_bytes_per_token(config, info.kv_cache_dtype);
  info.weight_bytes = model.weight_bytes;
  info.memory = model.memory;
  return info;
}

}  // namespace

struct Engine::State {
  // Fixed after load; order matters: what is declared later is destroyed first.
  ModelConfig config;
  GenerationDefaults defaults;
  EngineInfo info;
  LoadedModel model;
  BlockManager blocks;
  Scheduler scheduler;
  EventSink sink;

  Mailbox<Message> mailbox;
  std::atomic<bool> healthy{true};
  std::once_flag stopped;

  mutable std::mutex stats_mutex;
  EngineStats stats;  // guarded by stats_mutex
  PageMap page_map;   // guarded by stats_mutex
  std::atomic<bool> page_map_wanted{false};

  // Engine thread only.
  StepLoop loop;
  std::vector<Event> events;
  std::vector<Message> messages;
  double step_seconds = 0.0;
  PageMap next_page_map;      // its memory goes back and forth with page_map's
  PrefixSink prefix_sink;     // empty: nobody watches
  PrefixChanges prefix_news;  // of this step

  std::thread thread;

  State(ModelConfig config_arg, GenerationDefaults defaults_arg, EngineInfo info_arg,
        LoadedModel model_arg, const EngineOptions& options, EventSink sink_arg)
      : config(std::move(config_arg)),
        defaults(std::move(defaults_arg)),
        info(std::move(info_arg)),
        model(std::move(model_arg)),
        blocks(model.plan.num_pages, model.plan.layout.page_tokens()),
        scheduler(scheduler_options(options, config, model), blocks),
        sink(std::move(sink_arg)),
        mailbox(options.mailbox_capacity),
        loop(scheduler, *model.runner, model.plan.pipeline_depth) {}

  void run();
  void receive();
  void accept(Message& message, TimePoint now);
  void watch_prefixes(PrefixSink watcher);
  void publish(TimePoint now);
  void draw_page_map(TimePoint now);
  void fail(const Status& status);
  void finish_all(FinishReason reason, const Status& error);
};

void Engine::State::run() {
  TimePoint end{};
  while (!mailbox.closed()) {
    const bool idle = loop.idle();
    receive();
    const TimePoint begin = idle ? steady_now() : end;  // what lies between two steps counts too
    const Status status = loop.turn();
    if (!status.ok()) {
      fail(status);
      return;
    }
    end = steady_now();
    if (loop.launched_tokens() > 0) step_seconds += to_seconds(end - begin);
    publish(end);
  }
  finish_all(FinishReason::kCancelled,
             Status(StatusCode::kUnavailable, "the server is shutting down"));
}

// Takes what arrived; sleeps when there is nothing to compute.
void Engine::State::receive() {
  if (loop.idle()) {
    mailbox.wait_drain(messages, std::min(scheduler.next_wakeup(), steady_now() + kHeartbeat));
  } else {
    mailbox.drain(messages);
  }
  const TimePoint now = steady_now();
  for (Message& message : messages) accept(message, now);
  messages.clear();
}

void Engine::State::accept(Message& message, TimePoint now) {
  if (const Cancel* cancel = std::get_if<Cancel>(&message)) {
    scheduler.cancel(cancel->id, cancel->reason, now);
    return;
  }
  if (PrefixSink* watcher = std::get_if<PrefixSink>(&message)) {
    watch_prefixes(std::move(*watcher));
    return;
  }
  std::unique_ptr<Request>& request = std::get<std::unique_ptr<Request>>(message);
  const RequestId id = request->id;
  if (Status status = scheduler.submit(std::move(request), now); !status.ok()) {
    Event& event = events.emplace_back();
    event.kind = Event::Kind::kFinished;
    event.request = id;
    event.time = now;
    event.reason = FinishReason::kError;
    event.error = std::move(status);
  }
}

void Engine::State::watch_prefixes(PrefixSink watcher) {
  prefix_sink = std::move(watcher);
  prefix_news = {};
  blocks.record_prefixes(prefix_sink ? &prefix_news : nullptr);
}

void Engine::State::publish(TimePoint now) {
  if (!prefix_news.empty()) prefix_sink(std::exchange(prefix_news, {}));
  scheduler.drain_events(events);
  draw_page_map(now);
  SchedulerStats snapshot = scheduler.stats();
  {
    std::lock_guard lock(stats_mutex);
    stats.scheduler = snapshot;
    stats.heartbeat = now;
    stats.step_seconds_total = step_seconds;
    stats.steps = snapshot.steps;
    if (loop.launched_tokens() > 0) {
      stats.last_step_tokens = loop.launched_tokens();
      stats.step_tokens.observe(loop.launched_tokens());
    }
  }
  // Afterwards: whoever hears of an event finds it in the figures.
  if (!events.empty()) sink(events);
  events.clear();
}

void Engine::State::draw_page_map(TimePoint now) {
  if (!page_map_wanted.load(std::memory_order_relaxed)) return;
  if (now - next_page_map.time < kPageMapInterval) return;
  page_map_wanted.store(false, std::memory_order_relaxed);
  blocks.map_pages(next_page_map.runs);
  next_page_map.time = now;
  std::lock_guard lock(stats_mutex);
  std::swap(page_map, next_page_map);
  next_page_map.time = now;
}

// A fault of the device: everything in flight ends with a retryable error, and nothing is taken any
// more.
void Engine::State::fail(const Status& status) {
  spdlog::critical("engine failed: {}", status.to_string());
  healthy.store(false);
  mailbox.close();
  finish_all(FinishReason::kError,
             Status(StatusCode::kUnavailable, "the engine failed; retry elsewhere"));
}

// The last thing that the engine thread does: whoever still waits for an event gets it.
void Engine::State::finish_all(FinishReason reason, const Status& error) {
  mailbox.drain(messages);
  const TimePoint now = steady_now();
  for (Message& message : messages) accept(message, now);
  scheduler.cancel_all(reason, error, now);
  publish(now);
}

Engine::Engine(std::unique_ptr<State> state) : state_(std::move(state)) {}
Engine::~Engine() { stop(); }

Result<std::unique_ptr<Engine>> Engine::load(const std::filesystem::path& model_dir,
                                             const EngineOptions& options, EventSink sink) {
  return load(model_dir, options, std::move(sink), nullptr);
}

Result<std::unique_ptr<Engine>> Engine::load(const std::filesystem::path& model_dir,
                                             const EngineOptions& requested, EventSink sink,
                                             std::unique_ptr<Backend> backend) {
  const TimePoint begin = steady_now();
  LoadClock clock(begin);
  LATENTD_ASSIGN_OR_RETURN(ModelConfig config, load_model_config(model_dir));
  const EngineOptions options = resolve_device(requested, config);
  LATENTD_ASSIGN_OR_RETURN(GenerationDefaults defaults, load_generation_defaults(model_dir));
  clock.ended("configuration");
  LATENTD_ASSIGN_OR_RETURN(LoadedModel model,
                           load_model(model_dir, options, config, std::move(backend), clock));
  EngineInfo info = engine_info(config, model, options);
  info.load_time = steady_now() - begin;
  info.load_parts = clock.parts();
  auto state = std::make_unique<State>(std::move(config), std::move(defaults), std::move(info),
                                       std::move(model), options, std::move(sink));
  state->thread = std::thread([raw = state.get()] { raw->run(); });
  return std::unique_ptr<Engine>(new Engine(std::move(state)));
}

Status Engine::submit(std::unique_ptr<Request> request) {
  const SamplingParams& sampling = request->sampling;
  const std::size_t edits = sampling.logit_bias.size() + sampling.banned_until_min_tokens.size();
  if (edits > ModelRunner::kMaxLogitEdits) {
    return invalid_argument("logit_bias", fmt::format("at most {} biased or banned tokens, got {}",
                                                      ModelRunner::kMaxLogitEdits, edits));
  }
  LATENTD_RETURN_IF_ERROR(state_->scheduler.check(*request));
  if (state_->mailbox.try_push(std::move(request))) return ok_status();
  if (state_->mailbox.closed()) {
    return {StatusCode::kUnavailable, "the engine is not running; retry elsewhere"};
  }
  return {StatusCode::kResourceExhausted, "too many requests are waiting; retry later"};
}

void Engine::cancel(RequestId id, FinishReason reason) {
  state_->mailbox.push_always(Cancel{id, reason});
}

void Engine::watch_prefixes(PrefixSink sink) { state_->mailbox.push_always(std::move(sink)); }

const ModelConfig& Engine::config() const { return state_->config; }
const GenerationDefaults& Engine::generation_defaults() const { return state_->defaults; }
const EngineInfo& Engine::info() const { return state_->info; }
bool Engine::healthy() const { return state_->healthy.load(); }

EngineStats Engine::stats() const {
  EngineStats stats;
  {
    std::lock_guard lock(state_->stats_mutex);
    stats = state_->stats;
  }
  return stats;
}

PageMap Engine::page_map() {
  state_->page_map_wanted.store(true, std::memory_order_relaxed);
  std::lock_guard lock(state_->stats_mutex);
  return state_->page_map;
}

void Engine::stop() {
  std::call_once(state_->stopped, [this] {
    state_->mailbox.close();
    if (state_->thread.joinable()) state_->thread.join();
  });
}

}  // namespace latentd
