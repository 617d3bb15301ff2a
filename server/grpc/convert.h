// latentd.v1 messages to and from what the server works with.
//
// Contract: pure functions, safe from any thread.
#pragma once

#include <grpcpp/support/status.h>
#include <latentd/v1/generation.pb.h>

#include "base/status.h"
#include "server/chat_output.h"
#include "server/frontend.h"
#include "server/generation.h"
#include "server/generation_request.h"
#include "server/serving_model.h"

namespace latentd {

// kInvalidArgument when there is no prompt or a number does not fit. All other checks are
// validate's.
Result<GenerationRequest> to_generation_request(const v1::GenerateRequest& message,
                                                int default_max_tokens);

// `output` reads the choice's text; null when nothing but text is looked for in it.
v1::GenerateResponse to_response(const ChoiceDelta& delta, bool logprobs,
                                 const Tokenizer& tokenizer, ChatOutput* output);

v1::GetLoadResponse to_load_response(const Frontend& frontend);

v1::Usage to_usage(const Usage& usage);

v1::GetModelResponse to_model_response(const ServingModel& model);

// The message opens with the field at fault. kOutOfRange becomes INVALID_ARGUMENT.
grpc::Status to_grpc_status(const Status& status);

}  // namespace latentd
