// The service latentd.v1.Generation, on gRPC's callback (reactor) API.
//
// Contract: its methods run on gRPC's threads and never block: text work goes to the frontend's
// pool. One write is in flight a stream. `frontend` outlives the service.
#pragma once

#include <grpcpp/impl/service_type.h>

#include <memory>

#include "server/frontend.h"

namespace latentd {

std::unique_ptr<grpc::Service> make_generation_service(Frontend& frontend);

}  // namespace latentd
