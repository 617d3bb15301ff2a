// GrpcServer: the gRPC door: latentd.v1.Generation, grpc.health.v1 and reflection.
//
// Health is NOT_SERVING until set_serving(true). With API keys, reflection is off (it cannot ask
// for one); health needs none. Messages, concurrent streams, keepalive and connection age are
// bounded.
//
// Contract: start, set_serving, shutdown from one thread, main's. `frontend` outlives it.
#pragma once

#include <memory>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "server/frontend.h"

namespace latentd {

class GrpcServer final {
 public:
  // kUnavailable when the address cannot be had. Port 0 picks a free one.
  static Result<std::unique_ptr<GrpcServer>> start(Frontend& frontend, const std::string& host,
                                                   int port);
  ~GrpcServer();

  int port() const;
  void set_serving(bool serving);
  // Takes no new calls, waits for those that run, and cancels them at `deadline`.
  void shutdown(TimePoint deadline);

 private:
  struct State;
  explicit GrpcServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace latentd
