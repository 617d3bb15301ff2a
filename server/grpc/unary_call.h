// UnaryCall: what every call with one answer has in common.
//
// Contract: on gRPC's threads and the text pool, while the call is alive; copies are the same call.
// end is called once.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <string>
#include <string_view>

#include "server/access_log.h"
#include "server/grpc/call.h"
#include "server/grpc/convert.h"

namespace latentd {

struct UnaryCall {
  UnaryCall(grpc::CallbackServerContext& context_in, std::string_view method_in)
      : context(context_in), method(method_in), reactor(context.DefaultReactor()) {}

  Status authenticate(Frontend& frontend) {
    LATENTD_ASSIGN_OR_RETURN(caller, latentd::authenticate(context, frontend));
    return ok_status();
  }

  grpc::ServerUnaryReactor* end(const Status& status) const {
    add_error_metadata(context, status, caller);
    log_access({"grpc", method, "", request_id_or_new(metadata_of(context, "x-request-id")),
                std::string(status_code_name(status.code())), arrival, nullptr, caller,
                parse_traceparent(metadata_of(context, "traceparent"))});
    reactor->Finish(to_grpc_status(status));
    return reactor;
  }

  grpc::CallbackServerContext& context;
  std::string_view method;
  grpc::ServerUnaryReactor* reactor;  // asked for once: gRPC allows no more
  TimePoint arrival = steady_now();
  Caller caller;
};

}  // namespace latentd
