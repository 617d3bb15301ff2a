// GrpcServer: the gRPC door: latentd.v1.Generation, grpc.health.v1 and reflection; or the one for
// administrators: channelz, reflection and health.
//
// Health is NOT_SERVING until set_serving(true). With API keys, reflection is off (it cannot ask
// for one); health needs none. Messages, concurrent streams, keepalive and connection age are
// bounded. Certificates are read again when their files change. With TLS a key is asked for before
// a message is read; without, gRPC 1.51 has no hook there and each method asks first thing.
//
// Contract: an administrator's door is started after the other (gRPC adds channelz to every server
// that is built from then on). start, set_serving, shutdown from one thread, main's. `frontend`
// outlives it.
#pragma once

#include <memory>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "server/frontend.h"
#include "server/tls_files.h"

namespace latentd {

struct GrpcOptions {
  std::string host = "127.0.0.1";
  int port = 0;  // 0: any free one
  TlsFiles tls;
  bool admin = false;
  Duration connection_age = std::chrono::hours(1);  // then no more calls; those that run may end
};

class GrpcServer final {
 public:
  // kUnavailable when the address cannot be had or the certificate cannot be used.
  static Result<std::unique_ptr<GrpcServer>> start(Frontend& frontend, const GrpcOptions& options);
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
