// The service vllm.grpc.engine.VllmEngine, for gateways that tokenise and read the text themselves.
//
// Contract: as generation_service.h.
#pragma once

#include <grpcpp/impl/service_type.h>

#include <memory>

#include "server/frontend.h"

namespace latentd {

std::unique_ptr<grpc::Service> make_vllm_service(Frontend& frontend);

}  // namespace latentd
