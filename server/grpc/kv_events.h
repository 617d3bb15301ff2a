// SubscribeKvEvents of vllm.grpc.engine: a PrefixFeed's batches as a gateway reads them.
//
// A subscriber hears of the pages that its own requests would meet, those of its tenant without a
// cache_salt; batches of others come empty, so that their numbers have no gap.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>
#include <smg/grpc/common.pb.h>

#include <cstdint>

#include "server/frontend.h"
#include "server/prefix_feed.h"

namespace latentd {

namespace smg_common = ::smg::grpc::common;

// What `batch` says of pages with `salt`. Pure.
smg_common::KvEventBatch to_kv_event_batch(const PrefixBatch& batch, std::uint64_t salt,
                                           int page_tokens);

// Returns at once; the reactor owns itself until gRPC is done with it. On gRPC's thread.
grpc::ServerWriteReactor<smg_common::KvEventBatch>* subscribe_kv_events(
    Frontend& frontend, grpc::CallbackServerContext& context,
    const smg_common::SubscribeKvEventsRequest& request);

}  // namespace latentd
