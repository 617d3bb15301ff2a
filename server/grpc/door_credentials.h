// The credentials of the gRPC door: none, or TLS >= 1.2 with certificates that are read again when
// their files change.
//
// Contract: `frontend` outlives the server that uses them.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "server/frontend.h"
#include "server/tls_files.h"

namespace latentd {

std::shared_ptr<grpc::ServerCredentials> door_credentials(Frontend& frontend,
                                                          const TlsFiles& files);

}  // namespace latentd
