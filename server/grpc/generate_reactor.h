// One Generate call: from its message to its last write.
//
// Contract: start_generate returns at once; the reactor owns itself until gRPC is done with it.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>
#include <latentd/v1/generation.pb.h>

#include "server/frontend.h"

namespace latentd {

grpc::ServerWriteReactor<v1::GenerateResponse>* start_generate(Frontend& frontend,
                                                               grpc::CallbackServerContext& context,
                                                               const v1::GenerateRequest& message);

}  // namespace latentd
