#include "server/tracing/otlp_spans.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "base/status.h"
#include "server/version.h"

namespace latentd {
namespace {

using Attributes = google::protobuf::RepeatedPtrField<otlp::KeyValue>;

otlp::AnyValue& add(Attributes& attributes, std::string_view key) {
  otlp::KeyValue& attribute = *attributes.Add();
  attribute.set_key(std::string(key));
  return *attribute.mutable_value();
}

void add(Attributes& attributes, std::string_view key, std::string_view value) {
  add(attributes, key).set_string_value(std::string(value));
}
void add(Attributes& attributes, std::string_view key, std::int64_t value) {
  add(attributes, key).set_int_value(value);
}
void add(Attributes& attributes, std::string_view key, double value) {
  add(attributes, key).set_double_value(value);
}

// REQUIRES: an even number of hex digits.
std::string bytes_of(std::string_view hex) {
  std::string bytes(hex.size() / 2, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    unsigned value = 0;
    std::from_chars(hex.data() + 2 * i, hex.data() + 2 * i + 2, value, 16);
    bytes[i] = static_cast<char>(value);
  }
  return bytes;
}

std::uint64_t nanoseconds(double seconds) {
  return static_cast<std::uint64_t>(std::llround(std::max(seconds, 0.0) * 1e9));
}

// Moments of a request, in seconds since 1970, in order; what it did not come to is at its end.
struct Moments {
  explicit Moments(const RequestRecord& request)
      : end(request.ended_unix), arrival(end - request.duration_seconds) {
    const Cost& cost = request.usage.cost;
    admitted = std::clamp(arrival + cost.queue_seconds, arrival, end);
    first_token = std::clamp(arrival + cost.first_token_seconds, admitted, end);
    last_token = std::clamp(first_token + cost.decode_seconds, first_token, end);
  }

  double end;
  double arrival;
  double admitted = 0.0;
  double first_token = 0.0;
  double last_token = 0.0;
};

bool was_admitted(const RequestSpan& span) { return span.request.usage.cost.steps > 0; }
bool has_tokens(const RequestSpan& span) { return span.request.usage.completion_tokens > 0; }

// The name of an error for `error.type`, and whether the conventions call it the server's: a
// status from 500 up, or one of gRPC's that no client can cause.
struct ErrorType {
  std::string name;  // empty: none
  bool of_server = false;
};

ErrorType error_of(const RequestSpan& span) {
  const std::string& status = span.request.status;
  if (span.door == SpanDoor::kHttp) {
    if (status < "400") return {};
    return {status, status >= "500"};
  }
  if (status == "OK") return {};
  constexpr std::array kOfServer = {StatusCode::kUnknown,       StatusCode::kDeadlineExceeded,
                                    StatusCode::kUnimplemented, StatusCode::kInternal,
                                    StatusCode::kUnavailable,   StatusCode::kDataLoss};
  return {status, std::ranges::any_of(kOfServer, [&](StatusCode code) {
            return status == status_code_name(code);
          })};
}

void add_door(const RequestSpan& span, Attributes& attributes) {
  const RequestRecord& request = span.request;
  if (span.door == SpanDoor::kHttp) {
    std::int64_t status = 0;
    std::from_chars(request.status.data(), request.status.data() + request.status.size(), status);
    add(attributes, "http.request.method", "POST");
    add(attributes, "http.route", request.call);
    add(attributes, "http.response.status_code", status);
  } else {
    add(attributes, "rpc.system.name", "grpc");
    add(attributes, "rpc.method", request.call);
    add(attributes, "rpc.response.status_code", request.status);
  }
  if (!request.tenant.empty()) add(attributes, "latentd.tenant", request.tenant);
}

std::string_view reason_name(FinishKind kind) {
  constexpr std::array<std::string_view, 3> kNames = {"stop", "length", "cancelled"};
  return kNames[static_cast<std::size_t>(kind)];
}

void add_usage(const Usage& usage, Attributes& attributes) {
  const Cost& cost = usage.cost;
  add(attributes, "gen_ai.usage.input_tokens", std::int64_t{usage.prompt_tokens});
  add(attributes, "gen_ai.usage.output_tokens", std::int64_t{usage.completion_tokens});
  add(attributes, "gen_ai.usage.cache_read.input_tokens", std::int64_t{usage.cached_tokens});
  add(attributes, "gen_ai.latency.time_in_queue", cost.queue_seconds);
  if (usage.completion_tokens > 0) {
    add(attributes, "gen_ai.latency.time_to_first_token", cost.first_token_seconds);
  }
  if (usage.finishes.empty()) return;
  auto& reasons = *add(attributes, "gen_ai.response.finish_reasons").mutable_array_value();
  for (const FinishKind kind : usage.finishes) {
    reasons.add_values()->set_string_value(std::string(reason_name(kind)));
  }
}

otlp::Span& add_child(const otlp::Span& parent, std::string_view name, double begin, double end,
                      otlp::ScopeSpans& out) {
  otlp::Span& child = *out.add_spans();
  child.set_trace_id(parent.trace_id());
  child.set_span_id(bytes_of(new_span_id()));
  child.set_parent_span_id(parent.span_id());
  child.set_name(std::string(name));
  child.set_kind(otlp::Span::SPAN_KIND_INTERNAL);
  child.set_start_time_unix_nano(nanoseconds(begin));
  child.set_end_time_unix_nano(nanoseconds(end));
  child.set_flags((parent.flags() & 0xff) | 0x100);
  return child;
}

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

}  // namespace

int num_spans(const RequestSpan& span) {
  return 1 + (was_admitted(span) ? 2 : 0) + (has_tokens(span) ? 1 : 0);
}

void append_spans(const RequestSpan& span, otlp::ScopeSpans& out) {
  const RequestRecord& request = span.request;
  const Moments moments(request);
  otlp::Span& whole = *out.add_spans();
  whole.set_trace_id(bytes_of(span.trace.trace_id));
  whole.set_span_id(bytes_of(span.trace.span_id));
  whole.set_parent_span_id(bytes_of(span.trace.parent_id));
  unsigned flags = 0;
  std::from_chars(span.trace.flags.data(), span.trace.flags.data() + span.trace.flags.size(), flags,
                  16);
  whole.set_flags(flags | (span.trace.parent_id.empty() ? 0x100U : 0x300U));
  whole.set_name(std::string(span.operation) + (span.model.empty() ? "" : " " + span.model));
  whole.set_kind(otlp::Span::SPAN_KIND_SERVER);
  whole.set_start_time_unix_nano(nanoseconds(moments.arrival));
  whole.set_end_time_unix_nano(nanoseconds(moments.end));

  Attributes& attributes = *whole.mutable_attributes();
  add(attributes, "gen_ai.operation.name", span.operation);
  add(attributes, "gen_ai.provider.name", "latentd");
  if (!span.model.empty()) {
    add(attributes, "gen_ai.request.model", span.model);
    add(attributes, "gen_ai.response.model", span.model);
  }
  add(attributes, "gen_ai.response.id", request.request_id);
  add_door(span, attributes);
  if (was_admitted(span)) add_usage(request.usage, attributes);
  if (const ErrorType error = error_of(span); !error.name.empty()) {
    add(attributes, "error.type", error.name);
    if (error.of_server) whole.mutable_status()->set_code(otlp::Status::STATUS_CODE_ERROR);
  }

  if (was_admitted(span)) {
    add_child(whole, "queue", moments.arrival, moments.admitted, out);
    const double prefilled = has_tokens(span) ? moments.first_token : moments.end;
    add_child(whole, "prefill", moments.admitted, prefilled, out);
  }
  if (has_tokens(span)) add_child(whole, "decode", moments.first_token, moments.last_token, out);
}

otlp::ExportTraceServiceRequest empty_export_request() {
  otlp::ExportTraceServiceRequest request;
  otlp::ResourceSpans& spans = *request.add_resource_spans();
  Attributes& attributes = *spans.mutable_resource()->mutable_attributes();
  add(attributes, "service.name", "latentd");
  add(attributes, "service.version", kVersion);
  if (const std::string host = host_name(); !host.empty()) add(attributes, "host.name", host);
  add(attributes, "process.pid", std::int64_t{getpid()});
  otlp::InstrumentationScope& scope = *spans.add_scope_spans()->mutable_scope();
  scope.set_name("latentd");
  scope.set_version(std::string(kVersion));
  return request;
}

}  // namespace latentd
