// What every call of the gRPC door has in common: its key, its deadline, how it fails.
//
// Contract: on gRPC's threads, while the call is alive.
#pragma once

#include <grpcpp/server_context.h>

#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/status.h"
#include "server/frontend.h"

namespace latentd {

// The value of a metadata key; empty when there is none.
std::string_view metadata_of(const grpc::CallbackServerContext& context, const char* key);

// Who calls. kUnauthenticated without a valid key.
Result<Caller> authenticate(const grpc::CallbackServerContext& context, Frontend& frontend);

// kNever when the client set none.
TimePoint deadline_of(const grpc::CallbackServerContext& context);

// Adds the trailing metadata latentd-queue-ms and so on. REQUIRES: before Finish.
void add_cost_metadata(grpc::CallbackServerContext& context, const Usage& usage);

// Adds the trailing metadata that belongs to `status`. REQUIRES: before Finish.
void add_error_metadata(grpc::CallbackServerContext& context, const Status& status,
                        const Caller& caller);

}  // namespace latentd
