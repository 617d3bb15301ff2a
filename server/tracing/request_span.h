// RequestSpan: what there is to tell a tracing system of one request that has been answered.
#pragma once

#include <cstdint>
#include <string_view>

#include "server/recent_requests.h"
#include "server/trace_context.h"

namespace latentd {

enum class SpanDoor : std::uint8_t { kHttp, kGrpc };

struct RequestSpan {
  TraceContext trace;
  SpanDoor door = SpanDoor::kHttp;
  std::string_view operation;  // "chat", "text_completion": gen_ai.operation.name
  std::string model;           // empty: there was none yet
  RequestRecord request;
};

}  // namespace latentd
