// TraceContext: the trace that a request belongs to, as its client says by W3C's `traceparent`.
//
//   00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
//
// What does not parse is as if it were not there (W3C Trace Context, 3.2.2).
//
// Contract: plain values; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace latentd {

struct TraceContext {
  std::string trace_id;   // 32 lower-case hex digits, not all zero
  std::string parent_id;  // 16 of them: the client's span; empty: the trace begins here
  std::string span_id;    // 16 of them, new: this request's
  std::string flags;      // 2 of them

  // Whoever began the trace wants its spans recorded (W3C Trace Context, 3.2.2.5.1: bit 0).
  bool sampled() const;
  // The value of `traceresponse`: which span answered.
  std::string response() const { return "00-" + trace_id + "-" + span_id + "-" + flags; }
};

std::optional<TraceContext> parse_traceparent(std::string_view value);

// A trace that begins here. Of all of them the share `sample_ratio` (0 to 1) is sampled.
TraceContext start_trace(double sample_ratio);

// 16 lower-case hex digits, not all zero.
std::string new_span_id();

}  // namespace latentd
