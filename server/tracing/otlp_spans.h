// Requests as OTLP's spans: one of kind SERVER, named as OpenTelemetry's conventions for generative
// AI have it ("chat MODEL"), and below it `queue`, `prefill` and `decode`, as far as it came.
//
// Nothing of a prompt or an answer is in them.
//
// Contract: pure functions.
#pragma once

#include "opentelemetry/trace_service.pb.h"
#include "server/tracing/request_span.h"

namespace latentd {

namespace otlp = opentelemetry::proto::collector::trace::v1;

// How many spans append_spans makes of it.
int num_spans(const RequestSpan& span);

void append_spans(const RequestSpan& span, otlp::ScopeSpans& out);

// A message with this process as its resource and one empty scope.
otlp::ExportTraceServiceRequest empty_export_request();

}  // namespace latentd
