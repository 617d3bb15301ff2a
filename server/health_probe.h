// What `latentd health` does: asks a running server whether it may be sent requests.
//
// For the health checks of containers, which then need no shell and no other program in the image.
// The HTTP door is asked for /readyz (or /healthz: is the process alive), the gRPC door through
// grpc.health.v1.Health/Check. Neither needs a key.
//
// Contract: plain values; the probe blocks its caller for `timeout` at most.
#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"
#include "base/status.h"

namespace latentd {

enum class HealthDoor : std::uint8_t { kHttp, kGrpc };

struct HealthOptions {
  std::string host = "127.0.0.1";
  int http_port = 8000;
  int grpc_port = 50051;
  HealthDoor door = HealthDoor::kHttp;
  bool live = false;  // HTTP: /healthz instead of /readyz
  Duration timeout = std::chrono::seconds(3);
};

// Ok when the server answers that it is ready. kUnavailable when it answers anything else or cannot
// be reached, kDeadlineExceeded when it does not answer in time; the message says what was asked.
Status probe_health(const HealthOptions& options);

}  // namespace latentd
