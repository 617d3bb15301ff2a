// TraceContext: the trace that a request belongs to, as its client says by W3C's `traceparent`.
//
//   00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
//
// What does not parse is as if it were not there (W3C Trace Context, 3.2.2). We start no traces.
//
// Contract: plain values; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace latentd {

struct TraceContext {
  std::string trace_id;   // 32 lower-case hex digits, not all zero
  std::string parent_id;  // 16 of them: the client's span
  std::string span_id;    // likewise, new: this request's
  std::string flags;      // 2 of them

  // The value of `traceresponse`: which span answered.
  std::string response() const { return "00-" + trace_id + "-" + span_id + "-" + flags; }
};

std::optional<TraceContext> parse_traceparent(std::string_view value);

}  // namespace latentd
