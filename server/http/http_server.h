// HttpServer: the HTTP door, OpenAI-compatible, on Boost.Beast.
//
// A few threads; each connection is a coroutine on a strand of its own. Bounds: header 16 KiB and
// 100 lines within 10 s, body 8 MiB within 30 s, connections by the number of file descriptors, a
// write that makes no progress for 30 s ends the connection and its generation.
//
// Contract: start, stop_listening and stop from one thread, main's. `frontend` outlives it, and no
// sink of the frontend may be called once it is destroyed (Frontend::close).
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "server/frontend.h"

namespace latentd {

class HttpServer final {
 public:
  // kUnavailable when the address cannot be had. Port 0 picks a free one.
  static Result<std::unique_ptr<HttpServer>> start(Frontend& frontend, const std::string& host,
                                                   int port);
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
