// vllm.grpc.engine messages to and from what the server works with.
//
// Contract: pure functions, safe from any thread.
#pragma once

#include <vllm/grpc/engine.pb.h>

#include <string>
#include <vector>

#include "base/result.h"
#include "server/frontend.h"
#include "server/generation.h"

namespace latentd {

namespace vllm_engine = ::vllm::grpc::engine;

// kInvalidArgument when there is no input, a number does not fit, or something is asked for that is
// not done here. What is unset is off, not the model's default: gateways apply those themselves.
Result<GenerationRequest> to_generation_request(const vllm_engine::GenerateRequest& message,
                                                const ServingModel& model);

// The messages of one choice as its updates come.
class VllmChoice final {
 public:
  // `prompt` is shown with the prompt's logprobs, if those were asked for.
  VllmChoice(int index, const GenerationRequest& request, std::vector<TokenId> prompt);

  // A stream's chunk; false when there is nothing in it.
  bool fill_chunk(const ChoiceDelta& delta, const Usage& usage,
                  vllm_engine::GenerateStreamChunk& chunk);
  // What a stream's chunks do not need.
  void keep(const ChoiceDelta& delta);
  // REQUIRES: every delta was kept.
  void fill_complete(const Finish& finish, const Usage& usage,
                     vllm_engine::GenerateComplete& complete);

 private:
  void fill_prompt(vllm_engine::InputLogProbs& out);

  const int index_;
  const bool logprobs_;
  const bool prompt_logprobs_;
  std::vector<TokenId> prompt_;
  std::vector<TokenPiece> tokens_;
  std::vector<TokenPiece> prompt_pieces_;
  int generated_ = 0;
  bool prompt_shown_ = false;
};

vllm_engine::GetModelInfoResponse to_model_info(const ServingModel& model);
vllm_engine::GetServerInfoResponse to_server_info(const Frontend& frontend);
vllm_engine::GetLoadsResponse to_loads(const Frontend& frontend);

}  // namespace latentd
