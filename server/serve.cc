#include "server/serve.h"

#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <future>
#include <optional>

#include "engine/engine.h"
#include "server/frontend.h"
#include "server/grpc/grpc_server.h"
#include "server/http/http_server.h"
#include "server/http/tls_context.h"
#include "server/log.h"
#include "server/tracing/span_exporter.h"
#include "server/version.h"

namespace latentd {
namespace {

constexpr Duration kPoll = std::chrono::milliseconds(50);
constexpr Duration kReloadPoll = std::chrono::milliseconds(250);
constexpr Duration kLastWords = std::chrono::seconds(2);  // for answers to reach their sockets
constexpr Duration kLastSpans = std::chrono::seconds(3);  // for spans to reach their collector

void raise_file_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) spdlog::warn("cannot raise RLIMIT_NOFILE");
}

// SIGTERM and SIGINT, taken by waiting for them: no handler, no other thread.
class Signals final {
 public:
  Signals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGTERM);
    sigaddset(&set_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    signal(SIGPIPE, SIG_IGN);
  }

  // True when one came within `timeout`.
  bool wait(Duration timeout) const {
    const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(timeout).count();
    const timespec limit{static_cast<time_t>(ns / 1'000'000'000),
                         static_cast<long>(ns % 1'000'000'000)};
    return sigtimedwait(&set_, nullptr, &limit) > 0;
  }

 private:
  sigset_t set_{};
};

struct Loaded {
  std::unique_ptr<Engine> engine;
  std::unique_ptr<ServingModel> model;
};

std::int64_t unix_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// A model without conversations still completes texts.
void load_chat_format(const ServeOptions& options, ServingModel& model) {
  auto format = ChatFormat::load(options.model);
  if (format.ok()) {
    model.chat = *std::move(format);
    return;
  }
  model.why_no_chat = format.status().message();
  if (format.status().code() != StatusCode::kNotFound) spdlog::warn("{}", model.why_no_chat);
}

Result<Loaded> load(const ServeOptions& options, EventSink sink) {
  auto tokenizer = std::async(
      std::launch::async, [&options] { return Tokenizer::load(options.model / "tokenizer.json"); });
  EngineOptions engine_options = options.engine;
  engine_options.mailbox_capacity =
      std::max(engine_options.mailbox_capacity, static_cast<std::size_t>(options.max_queue));
  auto engine = Engine::load(options.model, engine_options, std::move(sink));
  auto loaded_tokenizer = tokenizer.get();
  if (!engine.ok()) return engine.status();
  if (!loaded_tokenizer.ok()) return loaded_tokenizer.status();

  Loaded loaded;
  loaded.engine = *std::move(engine);
  loaded.model = std::make_unique<ServingModel>();
  ServingModel& model = *loaded.model;
  model.directory = options.model;
  model.names = options.served_model_names;
  model.tokenizer = *std::move(loaded_tokenizer);
  model.config = loaded.engine->config();
  model.info = loaded.engine->info();
  model.end_tokens = end_tokens_of(model.config, loaded.engine->generation_defaults());
  if (options.use_generation_config) model.defaults = loaded.engine->generation_defaults();
  model.longest_token_bytes = longest_token_bytes(*model.tokenizer);
  model.limits = options.limits;
  model.structured = std::make_unique<StructuredOutput>(*model.tokenizer, model.end_tokens,
                                                        options.limits.max_schema_bytes);
  load_chat_format(options, model);
  model.default_max_tokens = options.default_max_tokens;
  model.created_unix = unix_now();
  return loaded;
}

EnginePort port_of(Engine& engine) {
  return {[&engine](std::unique_ptr<Request> request) { return engine.submit(std::move(request)); },
          [&engine](RequestId id, FinishReason reason) { engine.cancel(id, reason); },
          [&engine] { return engine.stats(); }, [&engine] { return engine.page_map(); },
          [&engine](PrefixSink sink) { engine.watch_prefixes(std::move(sink)); }};
}

void log_loaded(const EngineInfo& info) {
  for (const MemoryUse& use : info.memory) {
    log_event("memory",
              {{"purpose", use.purpose},
               {"bytes", std::to_string(use.bytes)},
               {"gib", fmt::format("{:.3f}", static_cast<double>(use.bytes) / (1 << 30))}});
  }
  LogFields parts;
  for (const LoadPart& part : info.load_parts) {
    parts.emplace_back(part.name, fmt::format("{:.3f}", to_seconds(part.time)));
  }
  log_event("load-seconds", parts);
  log_event("loaded",
            {{"device", info.device},
             {"dtype", std::string(dtype_name(info.activation_dtype))},
             {"attention", info.attention},
             {"kv-cache-dtype", std::string(dtype_name(info.kv_cache_dtype))},
             {"weight-bytes", std::to_string(info.weight_bytes)},
             {"kv-cache-tokens", std::to_string(std::int64_t{info.num_pages} * info.page_tokens)},
             {"kv-pages", std::to_string(info.num_pages)},
             {"kv-bytes-per-token", std::to_string(info.kv_bytes_per_token)},
             {"mha-bytes-per-token", std::to_string(info.mha_kv_bytes_per_token)},
             {"max-model-len", std::to_string(info.max_model_len)},
             {"max-num-seqs", std::to_string(info.max_num_seqs)},
             {"seconds", fmt::format("{:.3f}", to_seconds(info.load_time))}});
}

class Server final {
 public:
  explicit Server(const ServeOptions& options)
      : options_(options),
        frontend_({.api_keys = options.api_keys,
                   .max_queue = options.max_queue,
                   .stall_limit = options.stall_timeout,
                   .trace_sample_ratio = options.trace_sample_ratio,
                   .limits = options.limits}) {}

  int run() {
    if (Status status = read_files(); !status.ok()) return give_up(status);
    if (Status status = listen(); !status.ok()) return give_up(status);
    if (Status status = load_model(); !status.ok()) return give_up(status);
    set_serving(true);
    log_event("ready", {{"model", frontend_.model()->name()}});
    while (!signals_.wait(kPoll)) {
      if (!engine_->healthy()) return fail();
      reload_files();
    }
    return drain();
  }

 private:
  Status read_files() {
    if (!options_.api_key_file.empty()) {
      LATENTD_RETURN_IF_ERROR(frontend_.keys().use_file(options_.api_key_file));
    }
    if (!options_.spans.endpoint.empty()) {
      LATENTD_ASSIGN_OR_RETURN(spans_, SpanExporter::start(options_.spans, frontend_.metrics()));
      frontend_.set_span_exporter(spans_.get());
    }
    if (!options_.tls.enabled()) return ok_status();
    LATENTD_ASSIGN_OR_RETURN(tls_, TlsContext::load(options_.tls));
    frontend_.metrics().set_certificate_expiry(tls_->expiry_unix());
    return ok_status();
  }

  Status listen() {
    const std::string& host = options_.host;
    const auto routes = options_.metrics_port ? DoorRoutes::kAllButMetrics : DoorRoutes::kAll;
    LATENTD_ASSIGN_OR_RETURN(
        http_, HttpServer::start(frontend_, {host, options_.http_port, routes, tls_.get(),
                                             options_.cors_origins}));
    LATENTD_ASSIGN_OR_RETURN(
        grpc_, GrpcServer::start(frontend_, {.host = host,
                                             .port = options_.grpc_port,
                                             .tls = options_.tls,
                                             .connection_age = options_.grpc_connection_age}));
    LogFields fields = {{"http", host + ":" + std::to_string(http_->port())},
                        {"grpc", host + ":" + std::to_string(grpc_->port())}};
    if (options_.metrics_port) {
      LATENTD_ASSIGN_OR_RETURN(
          metrics_http_,
          HttpServer::start(frontend_,
                            {host, *options_.metrics_port, DoorRoutes::kOperations, nullptr, {}}));
      fields.emplace_back("metrics", host + ":" + std::to_string(metrics_http_->port()));
    }
    if (options_.admin_port) {
      LATENTD_ASSIGN_OR_RETURN(
          admin_grpc_,
          GrpcServer::start(
              frontend_, {.host = host, .port = *options_.admin_port, .tls = {}, .admin = true}));
      fields.emplace_back("admin", host + ":" + std::to_string(admin_grpc_->port()));
    }
    log_event("listening", fields);
    if (!is_loopback(options_.host) && !frontend_.keys().required()) {
      spdlog::warn("{} is reachable from other machines and no --api-key is set", options_.host);
    }
    return ok_status();
  }

  Status load_model() {
    auto loading =
        std::async(std::launch::async, [this] { return load(options_, frontend_.event_sink()); });
    while (loading.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) {
      // Nothing runs yet that could be finished.
      if (signals_.wait(std::chrono::milliseconds(1))) std::_Exit(0);
    }
    auto loaded = loading.get();
    if (!loaded.ok()) return loaded.status();
    engine_ = std::move(loaded->engine);
    log_loaded(engine_->info());
    frontend_.set_ready(std::move(loaded->model), port_of(*engine_));
    return ok_status();
  }

  int drain() {
    frontend_.set_draining();
    set_serving(false);
    log_event("draining", {{"in-house", std::to_string(frontend_.in_house())}});
    if (!wait_until(steady_now() + options_.drain_propagation, [] { return false; })) return fail();
    frontend_.stop_accepting();
    http_->stop_listening();
    const TimePoint deadline = steady_now() + options_.drain_timeout;
    if (!wait_until(deadline, [this] { return is_quiet(); })) return fail();
    log_event("drained", {{"in-house", std::to_string(frontend_.in_house())}});
    shut_down(deadline);
    return 0;
  }

  // Waits for `done`. False when the engine failed meanwhile. A signal ends the process.
  template <typename Done>
  bool wait_until(TimePoint deadline, const Done& done) {
    while (!done() && steady_now() < deadline) {
      const Duration left = std::max(Duration::zero(), deadline - steady_now());
      if (signals_.wait(std::min(kPoll, left))) std::_Exit(130);
      if (!engine_->healthy()) return false;
      reload_files();
    }
    return true;
  }

  void set_serving(bool serving) {
    grpc_->set_serving(serving);
    if (admin_grpc_) admin_grpc_->set_serving(serving);
  }

  // Keys and certificates may change while the server runs; gRPC looks after its own.
  void reload_files() {
    if (steady_now() < next_look_) return;
    next_look_ = steady_now() + kReloadPoll;
    const auto keys = frontend_.keys().reload();
    if (!keys.ok()) {
      spdlog::error("the keys stay as they were: {}", keys.status().message());
    } else if (*keys) {
      log_event("keys", {{"count", std::to_string(frontend_.keys().size())}});
    }
    if (tls_ == nullptr) return;
    const auto certificate = tls_->reload();
    if (!certificate.ok()) {
      spdlog::error("the certificate stays as it was: {}", certificate.status().message());
    } else if (*certificate) {
      frontend_.metrics().set_certificate_expiry(tls_->expiry_unix());
      log_event("certificate", {{"expires", std::to_string(tls_->expiry_unix())}});
    }
  }

  bool is_quiet() const { return frontend_.in_house() == 0 && http_->num_active() == 0; }

  int fail() {
    frontend_.set_failed();
    frontend_.metrics().count_device_error("fatal");
    frontend_.stop_accepting();
    set_serving(false);
    spdlog::critical("the engine has failed");
    shut_down(steady_now());
    return 1;
  }

  // Everybody who waits hears something before the doors close; those who still read what is theirs
  // have until `deadline`.
  void shut_down(TimePoint deadline) {
    frontend_.stop_accepting();
    http_->stop_listening();
    engine_->stop();
    frontend_.close();
    deadline = std::max(deadline, steady_now() + kLastWords);
    auto closing = std::async(std::launch::async, [&] {
      grpc_->shutdown(deadline);
      if (admin_grpc_) admin_grpc_->shutdown(deadline);
    });
    const auto closed = [&closing, this] {
      return http_->num_active() == 0 &&
             closing.wait_for(Duration::zero()) == std::future_status::ready;
    };
    while (!closed() && steady_now() < deadline) {
      if (signals_.wait(std::chrono::milliseconds(5))) std::_Exit(130);
    }
    closing.get();
    http_->stop();
    if (metrics_http_) metrics_http_->stop();
    if (spans_) spans_->close(kLastSpans);
  }

  static int give_up(const Status& status) {
    spdlog::critical("{}", status.to_string());
    return 1;
  }

  const ServeOptions& options_;
  const Signals signals_;  // before any thread: they inherit its mask
  Frontend frontend_;
  std::unique_ptr<SpanExporter> spans_;  // null: nobody collects them
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<TlsContext> tls_;  // null: not encrypted
  std::unique_ptr<GrpcServer> grpc_;
  std::unique_ptr<GrpcServer> admin_grpc_;  // null: none
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<HttpServer> metrics_http_;  // null: none
  TimePoint next_look_{};
};

}  // namespace

int serve(const ServeOptions& options) {
  configure_logging(options.log_level, options.log_format);
  raise_file_limit();
  LogFields configuration = describe(options);
  configuration.emplace(configuration.begin(), "version", std::string(kVersion));
  log_event("configuration", configuration);
  return Server(options).run();
}

}  // namespace latentd
