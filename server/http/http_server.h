// HttpServer: the HTTP door, OpenAI-compatible, on Boost.Beast.
//
// A few threads; each connection is a coroutine on a strand of its own. Bounds: header 16 KiB and
// 100 lines within 10 s, bodies as Frontend::limits says, connections by the number of file
// descriptors, a write that makes no progress for Frontend::stall_limit ends the connection and its
// generation.
//
// Contract: start, stop_listening and stop from one thread, main's. `frontend` outlives it, and no
// sink of the frontend may be called once it is destroyed (Frontend::close).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "server/frontend.h"

namespace latentd {

class TlsContext;

enum class DoorRoutes : std::uint8_t {
  kAll,
  kAllButMetrics,  // they have a door of their own
  kOperations,     // health, version and metrics; no key is asked for
};

struct HttpOptions {
  std::string host = "127.0.0.1";
  int port = 0;  // 0: any free one
  DoorRoutes routes = DoorRoutes::kAll;
  const TlsContext* tls = nullptr;        // null: not encrypted; outlives the server
  std::vector<std::string> cors_origins;  // pages that browsers may let in; "*": all
};

class HttpServer final {
 public:
  // kUnavailable when the address cannot be had.
  static Result<std::unique_ptr<HttpServer>> start(Frontend& frontend, HttpOptions options);
  ~HttpServer();  // stops

  int port() const;
  // Takes no new connections; answers from now on end theirs. Idle ones stay until stop.
  void stop_listening();
  // Requests whose answers are not fully written.
  int num_active() const;
  // Closes everything and joins. Idempotent.
  void stop();

 private:
  struct State;
  explicit HttpServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace latentd
