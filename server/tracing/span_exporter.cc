#include "server/tracing/span_exporter.h"

#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cctype>
#include <condition_variable>
#include <deque>
#include <fstream>
#include <mutex>
#include <optional>
#include <sstream>
#include <thread>

#include "opentelemetry/trace_service.grpc.pb.h"
#include "server/metrics.h"
#include "server/percent_decode.h"
#include "server/tracing/otlp_spans.h"

namespace latentd {
namespace {

// Codes after which OTLP lets a client try again (opentelemetry.io/docs/specs/otlp, Failures).
bool is_retryable(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::CANCELLED:
    case grpc::StatusCode::DEADLINE_EXCEEDED:
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
    case grpc::StatusCode::ABORTED:
    case grpc::StatusCode::OUT_OF_RANGE:
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::DATA_LOSS:
      return true;
    default:
      return false;
  }
}

Result<std::shared_ptr<grpc::ChannelCredentials>> credentials_of(const SpanExportOptions& options,
                                                                 bool tls) {
  if (!tls) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions ssl;
  if (!options.ca_file.empty()) {
    std::ifstream file(options.ca_file);
    std::ostringstream text;
    text << file.rdbuf();
    if (!file || text.str().empty()) {
      return Status(StatusCode::kNotFound, options.ca_file.string() + " cannot be read")
          .with_field("otlp-ca-file");
    }
    ssl.pem_root_certs = text.str();
  }
  return grpc::SslCredentials(ssl);
}

std::string_view trim(std::string_view text) {
  const std::size_t begin = std::min(text.find_first_not_of(" \t"), text.size());
  return text.substr(begin, text.find_last_not_of(" \t") + 1 - begin);
}

}  // namespace

Result<SpanEndpoint> parse_span_endpoint(const std::string& endpoint) {
  SpanEndpoint parsed{endpoint, false};
  if (endpoint.starts_with("http://")) parsed.address = endpoint.substr(7);
  if (endpoint.starts_with("https://")) parsed = {endpoint.substr(8), true};
  if (parsed.address.ends_with('/')) parsed.address.pop_back();
  const std::size_t colon = parsed.address.rfind(':');
  const std::string port = colon == std::string::npos ? "" : parsed.address.substr(colon + 1);
  const bool is_port = !port.empty() && port.size() <= 5 &&
                       std::ranges::all_of(port, [](char c) { return c >= '0' && c <= '9'; }) &&
                       std::stoi(port) > 0 && std::stoi(port) <= 65535;
  if (!is_port || colon == 0 || parsed.address.find('/') != std::string::npos) {
    return invalid_argument("otlp-endpoint",
                            "must be host:port, http://host:port or "
                            "https://host:port, got \"" +
                                endpoint + "\"");
  }
  return parsed;
}

Result<std::pair<std::string, std::string>> parse_span_header(const std::string& header) {
  const std::size_t equals = header.find('=');
  std::string name(trim(std::string_view(header).substr(0, equals)));
  for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const bool is_name =
      !name.empty() && !name.starts_with("grpc-") && !name.ends_with("-bin") &&
      std::ranges::all_of(name, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
      });
  std::optional<std::string> value;
  if (equals != std::string::npos) {
    value = percent_decode(trim(std::string_view(header).substr(equals + 1)));
  }
  const bool is_value =
      value && std::ranges::all_of(*value, [](char c) { return c >= 0x20 && c < 0x7f; });
  // The value may be a secret: the message keeps it to itself.
  if (!is_name || !is_value) {
    return invalid_argument("otlp-header",
                            "must be name=value in printable ASCII, the name of letters, digits, "
                            "- _ and ., the value percent-encoded where it holds , or %");
  }
  return std::pair(std::move(name), *std::move(value));
}

struct SpanExporter::State {
  State(SpanExportOptions given, std::unique_ptr<otlp::TraceService::StubInterface> service,
        Metrics& counts)
      : options(std::move(given)), stub(std::move(service)), metrics(counts) {}

  void run();
  bool take_batch(otlp::ExportTraceServiceRequest& request, int& spans);
  void send(const otlp::ExportTraceServiceRequest& request, int spans);
  grpc::Status call(const otlp::ExportTraceServiceRequest& request, int& rejected);
  bool pause(Duration time);
  void drop(std::string_view reason, int spans) { metrics.count_spans_dropped(reason, spans); }

  const SpanExportOptions options;
  const std::unique_ptr<otlp::TraceService::StubInterface> stub;
  Metrics& metrics;

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<RequestSpan> queue;   // guarded by mutex, as all below
  TimePoint last_moment = kNever;  // of sending; set by close
  bool closing = false;
  bool ended = false;                      // the thread has nothing more to do
  grpc::ClientContext* calling = nullptr;  // the call under way
  std::thread thread;                      // last: it uses all of the above
};

// Waits for spans and for others to go with them. False when nothing more comes.
bool SpanExporter::State::take_batch(otlp::ExportTraceServiceRequest& request, int& spans) {
  std::unique_lock lock(mutex);
  changed.wait(lock, [this] { return closing || !queue.empty(); });
  changed.wait_until(lock, steady_now() + options.gather,
                     [this] { return closing || queue.size() >= options.batch; });
  if (queue.empty()) return false;
  std::vector<RequestSpan> batch;
  while (!queue.empty() && batch.size() < options.batch) {
    batch.push_back(std::move(queue.front()));
    queue.pop_front();
  }
  lock.unlock();
  otlp::ScopeSpans& out = *request.mutable_resource_spans(0)->mutable_scope_spans(0);
  out.clear_spans();
  for (const RequestSpan& span : batch) append_spans(span, out);
  spans = out.spans_size();
  return true;
}

grpc::Status SpanExporter::State::call(const otlp::ExportTraceServiceRequest& request,
                                       int& rejected) {
  grpc::ClientContext context;
  for (const auto& [name, value] : options.headers) context.AddMetadata(name, value);
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::duration_cast<std::chrono::milliseconds>(options.call_limit));
  {
    std::lock_guard lock(mutex);
    if (steady_now() >= last_moment) return {grpc::StatusCode::CANCELLED, "closing"};
    calling = &context;
  }
  otlp::ExportTraceServiceResponse response;
  grpc::Status status = stub->Export(&context, request, &response);
  {
    std::lock_guard lock(mutex);
    calling = nullptr;
  }
  if (status.ok()) rejected = static_cast<int>(response.partial_success().rejected_spans());
  return status;
}

// False when the exporter closes meanwhile: there is no time for pauses then.
bool SpanExporter::State::pause(Duration time) {
  std::unique_lock lock(mutex);
  return !changed.wait_for(lock, time, [this] { return closing; });
}

void SpanExporter::State::send(const otlp::ExportTraceServiceRequest& request, int spans) {
  Duration wait = options.first_pause;
  for (int attempt = 1;; ++attempt) {
    int rejected = 0;
    const grpc::Status status = call(request, rejected);
    if (status.ok()) {
      rejected = std::clamp(rejected, 0, spans);
      metrics.count_spans_exported(spans - rejected);
      if (rejected > 0) drop("rejected", rejected);
      return;
    }
    if (attempt < options.attempts && is_retryable(status.error_code()) && pause(wait)) {
      wait *= 2;
      continue;
    }
    spdlog::warn("{} spans are lost: {} answered {} {}", spans, options.endpoint,
                 static_cast<int>(status.error_code()), status.error_message());
    drop("export_failed", spans);
    return;
  }
}

void SpanExporter::State::run() {
  auto request = empty_export_request();
  int spans = 0;
  while (take_batch(request, spans)) send(request, spans);
  std::lock_guard lock(mutex);
  ended = true;
  changed.notify_all();
}

Result<std::unique_ptr<SpanExporter>> SpanExporter::start(const SpanExportOptions& options,
                                                          Metrics& metrics) {
  LATENTD_ASSIGN_OR_RETURN(const SpanEndpoint endpoint, parse_span_endpoint(options.endpoint));
  LATENTD_ASSIGN_OR_RETURN(auto credentials, credentials_of(options, endpoint.tls));
  grpc::ChannelArguments arguments;
  // A collector that was restarted is found again soon, not after gRPC's two minutes.
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 10'000);
  auto stub = otlp::TraceService::NewStub(
      grpc::CreateCustomChannel(endpoint.address, credentials, arguments));
  return std::unique_ptr<SpanExporter>(
      new SpanExporter(std::make_unique<State>(options, std::move(stub), metrics)));
}

SpanExporter::SpanExporter(std::unique_ptr<State> state) : state_(std::move(state)) {
  state_->thread = std::thread([this] { state_->run(); });
}

SpanExporter::~SpanExporter() { close(Duration::zero()); }

void SpanExporter::push(RequestSpan span) {
  {
    std::lock_guard lock(state_->mutex);
    if (!state_->closing && state_->queue.size() < state_->options.queue_capacity) {
      state_->queue.push_back(std::move(span));
      state_->changed.notify_one();
      return;
    }
  }
  state_->drop("queue_full", num_spans(span));
}

void SpanExporter::close(Duration limit) {
  if (!state_->thread.joinable()) return;
  std::unique_lock lock(state_->mutex);
  state_->closing = true;
  state_->last_moment = steady_now() + limit;
  state_->changed.notify_all();
  const auto ended = [this] { return state_->ended; };
  if (!state_->changed.wait_for(lock, limit, ended) && state_->calling != nullptr) {
    state_->calling->TryCancel();  // the next one is not made
  }
  lock.unlock();
  state_->thread.join();
}

}  // namespace latentd
