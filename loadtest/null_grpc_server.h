// The null server's gRPC door: latentd.v1.Generation/Generate with made-up tokens at the same pace
// (null_server.h). Token i of every answer has the id i.
//
// Contract: serves on gRPC's own threads from construction to destruction.
#pragma once

#include <memory>

#include "base/result.h"
#include "loadtest/null_server.h"

namespace latentd::loadtest {

class NullGrpcServer final {
 public:
  // options.grpc_port: of 127.0.0.1, 0 is any free one. kUnavailable when the port is taken.
  // `options` outlives the server.
  static Result<std::unique_ptr<NullGrpcServer>> start(const NullServerOptions& options);
  ~NullGrpcServer();  // breaks off what is in flight
  NullGrpcServer(const NullGrpcServer&) = delete;
  NullGrpcServer& operator=(const NullGrpcServer&) = delete;

  int port() const;

 private:
  struct State;
  explicit NullGrpcServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace latentd::loadtest
