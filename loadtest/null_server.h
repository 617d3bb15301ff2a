// The null server: answers `POST .../completions` with server-sent events of made-up tokens, at
// once or at a fixed pace. What a load test measures against it is the load test's own cost.
//
// Token i of every answer has the id i, so that a reader can tell lost and reordered tokens. Its
// /metrics say, by its own clock, when it wrote first and last tokens: what a client sees later
// than that is the client's and the network's.
#pragma once

#include <atomic>
#include <functional>

#include "base/status.h"

namespace latentd::loadtest {

struct NullServerOptions {
  int port = 0;                 // of 127.0.0.1; 0: any free one
  int grpc_port = -1;           // the same, for gRPC; -1: none
  double tokens_per_s = 0.0;    // of each stream; 0: all at once
  double first_token_ms = 0.0;  // before the first one
};

// Serves on this thread until `stop`. Calls `listening(port)` once. kUnavailable when the port is
// taken.
Status run_null_server(const NullServerOptions& options, const std::atomic<bool>& stop,
                       const std::function<void(int port)>& listening);

}  // namespace latentd::loadtest
