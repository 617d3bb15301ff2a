// GetTokenizer of vllm.grpc.engine: a TokenizerArchive in pieces.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>
#include <smg/grpc/common.pb.h>

#include "server/frontend.h"
#include "server/tokenizer_archive.h"

namespace latentd {

// Returns at once; the reactor owns itself until gRPC is done with it. On gRPC's thread; `archive`
// is read on the text pool and outlives the call.
grpc::ServerWriteReactor<::smg::grpc::common::GetTokenizerChunk>* stream_tokenizer(
    Frontend& frontend, TokenizerArchive& archive, grpc::CallbackServerContext& context);

}  // namespace latentd
