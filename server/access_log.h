// The access log: one line a request, through whichever door. Never holds prompts, outputs or keys.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "server/api_key.h"
#include "server/generation.h"
#include "server/trace_context.h"

namespace latentd {

struct AccessRecord {
  std::string_view door;    // "http", "grpc"
  std::string_view method;  // "POST", "Generate"
  std::string path;         // without its query; empty for gRPC
  std::string request_id;
  std::string status;  // "200", "INVALID_ARGUMENT"
  TimePoint arrival{};
  const Usage* usage = nullptr;  // of generations
  Caller caller;                 // its tenant is named
  std::optional<TraceContext> trace = std::nullopt;
};

void log_access(const AccessRecord& record);

// What a client calls its request, if that is fit to be echoed and logged (1 to 128 visible ASCII
// characters); a new random id otherwise.
std::string request_id_or_new(std::string_view offered, std::string_view prefix = "");

}  // namespace latentd
