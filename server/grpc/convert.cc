#include "server/grpc/convert.h"

#include "server/version.h"

namespace latentd {
namespace {

template <typename Ids>
std::vector<TokenId> to_tokens(const Ids& ids) {
  return std::vector<TokenId>(ids.begin(), ids.end());
}

void read_sampling(const v1::SamplingParams& message, GenerationRequest& request) {
  if (message.has_temperature()) request.temperature = message.temperature();
  if (message.has_top_p()) request.top_p = message.top_p();
  if (message.has_top_k()) request.top_k = message.top_k();
  if (message.has_min_p()) request.min_p = message.min_p();
  if (message.has_repetition_penalty()) request.repetition_penalty = message.repetition_penalty();
  request.presence_penalty = message.presence_penalty();
  request.frequency_penalty = message.frequency_penalty();
  if (message.has_seed()) request.seed = message.seed();
  for (const auto& [token, bias] : message.logit_bias()) {
    request.logit_bias.emplace_back(token, bias);
  }
}

void read_stopping(const v1::StoppingParams& message, GenerationRequest& request) {
  if (message.has_max_tokens()) request.max_tokens = message.max_tokens();
  request.min_tokens = message.min_tokens();
  request.stop.assign(message.stop().begin(), message.stop().end());
  request.stop_token_ids = to_tokens(message.stop_token_ids());
  request.ignore_eos = message.ignore_eos();
  request.include_stop_in_output = message.include_stop_in_output();
}

void fill_logprobs(const TokenPiece& piece, const Tokenizer& tokenizer,
                   v1::TokenLogprobs& message) {
  const auto fill = [&tokenizer](const TokenLogprob& from, v1::Logprob& to) {
    to.set_token_id(from.token);
    to.set_logprob(from.logprob);
    to.set_token(std::string(tokenizer.token_bytes(from.token)));
  };
  fill(piece.token, *message.mutable_token());
  for (const TokenLogprob& top : piece.top) fill(top, *message.add_top());
}

v1::FinishReason to_reason(FinishKind kind) {
  switch (kind) {
    case FinishKind::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishKind::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishKind::kCancelled:
      return v1::FINISH_REASON_CANCELLED;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

}  // namespace

Result<GenerationRequest> to_generation_request(const v1::GenerateRequest& message,
                                                int default_max_tokens) {
  GenerationRequest request;
  request.model = message.model();
  request.default_max_tokens = default_max_tokens;
  switch (message.prompt_case()) {
    case v1::GenerateRequest::kText:
      request.prompts.emplace_back(message.text());
      break;
    case v1::GenerateRequest::kTokenIds:
      request.prompts.emplace_back(to_tokens(message.token_ids().ids()));
      break;
    case v1::GenerateRequest::PROMPT_NOT_SET:
      return invalid_argument("prompt", "text or token_ids is required");
  }
  read_sampling(message.sampling(), request);
  read_stopping(message.stopping(), request);
  const v1::OutputParams& output = message.output();
  if (output.has_n()) request.n = output.n();
  if (output.has_logprobs()) {
    request.logprobs = output.logprobs();
    if (request.logprobs < 0) {
      return invalid_argument("logprobs", "must be between 0 and " + std::to_string(kMaxLogprobs) +
                                              ", got " + std::to_string(request.logprobs));
    }
  }
  request.prompt_logprobs = output.prompt_logprobs();
  request.skip_special_tokens = !output.keep_special_tokens();
  request.priority = message.priority();
  return request;
}

v1::GenerateResponse to_response(const ChoiceDelta& delta, const GenerationRequest& request,
                                 const Tokenizer& tokenizer) {
  v1::GenerateResponse message;
  message.set_index(delta.choice);
  message.set_text(delta.text);
  for (const TokenPiece& piece : delta.tokens) {
    message.add_token_ids(piece.token.token);
    if (request.logprobs >= 0) fill_logprobs(piece, tokenizer, *message.add_logprobs());
  }
  for (const TokenPiece& piece : delta.prompt_tokens) {
    fill_logprobs(piece, tokenizer, *message.add_prompt_logprobs());
  }
  if (delta.finish) {
    message.set_finish_reason(to_reason(delta.finish->kind));
    message.set_stop_string(delta.finish->stop_string);
    if (delta.finish->stop_token >= 0) message.set_stop_token_id(delta.finish->stop_token);
  }
  return message;
}

v1::Usage to_usage(const Usage& usage) {
  v1::Usage message;
  message.set_prompt_tokens(usage.prompt_tokens);
  message.set_completion_tokens(usage.completion_tokens);
  message.set_cached_tokens(usage.cached_tokens);
  return message;
}

v1::GetModelResponse to_model_response(const ServingModel& model) {
  v1::GetModelResponse message;
  message.set_model(model.name());
  message.set_architecture(model.config.architecture);
  message.set_max_model_len(model.info.max_model_len);
  message.set_vocab_size(model.config.vocab_size);
  for (const TokenId token : model.end_tokens) message.add_eos_token_ids(token);
  message.set_device(model.info.device);
  message.set_dtype(std::string(dtype_name(model.info.activation_dtype)));
  message.set_kv_cache_dtype(std::string(dtype_name(model.info.kv_cache_dtype)));
  message.set_kv_cache_tokens(std::int64_t{model.info.num_pages} * model.info.page_tokens);
  message.set_kv_bytes_per_token(static_cast<std::int64_t>(model.info.kv_bytes_per_token));
  message.set_mha_kv_bytes_per_token(static_cast<std::int64_t>(model.info.mha_kv_bytes_per_token));
  message.set_max_num_seqs(model.info.max_num_seqs);
  message.set_server_version(std::string(kVersion));
  return message;
}

grpc::Status to_grpc_status(const Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const StatusCode code =
      status.code() == StatusCode::kOutOfRange ? StatusCode::kInvalidArgument : status.code();
  const std::string message =
      status.field().empty() ? status.message() : status.field() + ": " + status.message();
  return grpc::Status(static_cast<grpc::StatusCode>(code), message);
}

}  // namespace latentd
