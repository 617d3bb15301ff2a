#include "server/grpc/convert.h"

#include <algorithm>

#include "server/grpc/chat_convert.h"
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
  if (message.allowed_token_ids_size() > 0) {
    request.allowed_token_ids = to_tokens(message.allowed_token_ids());
  }
  request.bad_words.assign(message.bad_words().begin(), message.bad_words().end());
}

Status read_output(const v1::OutputParams& message, GenerationRequest& request) {
  if (message.has_n()) request.n = message.n();
  if (message.has_logprobs()) {
    request.logprobs = message.logprobs();
    if (request.logprobs < 0) {
      return invalid_argument("logprobs", "must be between 0 and " + std::to_string(kMaxLogprobs) +
                                              ", got " + std::to_string(request.logprobs));
    }
  }
  if (message.prompt_logprobs()) request.prompt_logprobs = std::max(request.logprobs, 0);
  request.skip_special_tokens = !message.keep_special_tokens();
  return ok_status();
}

void read_format(const v1::OutputFormat& message, GenerationRequest& request) {
  if (message.format_case() == v1::OutputFormat::kJsonSchema) {
    request.format = OutputFormat::kJsonSchema;
    request.json_schema = message.json_schema();
  } else if (message.json_object()) {
    request.format = OutputFormat::kJsonObject;
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

void fill_call(const ToolCallDelta& call, v1::ToolCallDelta& message) {
  message.set_index(call.index);
  message.set_id(call.id);
  message.set_name(call.name);
  message.set_arguments(call.arguments);
}

v1::FinishReason to_reason(FinishKind kind, bool has_calls) {
  switch (kind) {
    case FinishKind::kStop:
      return has_calls ? v1::FINISH_REASON_TOOL_CALLS : v1::FINISH_REASON_STOP;
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
    case v1::GenerateRequest::kChat: {
      LATENTD_ASSIGN_OR_RETURN(ChatRead chat, read_chat(message.chat()));
      request.prompts.emplace_back(std::move(chat.prompt));
      request.tool_use = std::move(chat.tool_use);
      break;
    }
    case v1::GenerateRequest::PROMPT_NOT_SET:
      return invalid_argument("prompt", "text, token_ids or chat is required");
  }
  read_sampling(message.sampling(), request);
  read_stopping(message.stopping(), request);
  LATENTD_RETURN_IF_ERROR(read_output(message.output(), request));
  read_format(message.format(), request);
  request.cache_salt = message.cache_salt();
  request.add_special_tokens = !message.no_special_tokens();
  request.priority = message.priority();
  return request;
}

v1::GenerateResponse to_response(const ChoiceDelta& delta, bool logprobs,
                                 const Tokenizer& tokenizer, ChatOutput* output) {
  v1::GenerateResponse message;
  message.set_index(delta.choice);
  if (output == nullptr) {
    message.set_text(delta.text);
  } else {
    ChatOutput::Parts parts = output->push(delta.text);
    if (delta.finish) parts.append(output->finish());
    message.set_text(parts.content);
    message.set_reasoning(parts.thoughts);
    for (const ToolCallDelta& call : parts.calls) fill_call(call, *message.add_tool_calls());
  }
  for (const TokenPiece& piece : delta.tokens) {
    message.add_token_ids(piece.token.token);
    if (logprobs) fill_logprobs(piece, tokenizer, *message.add_logprobs());
  }
  for (const TokenPiece& piece : delta.prompt_tokens) {
    fill_logprobs(piece, tokenizer, *message.add_prompt_logprobs());
  }
  if (delta.finish) {
    message.set_finish_reason(
        to_reason(delta.finish->kind, output != nullptr && output->has_calls()));
    message.set_stop_string(delta.finish->stop_string);
    if (delta.finish->stop_token >= 0) message.set_stop_token_id(delta.finish->stop_token);
  }
  return message;
}

v1::GetLoadResponse to_load_response(const Frontend& frontend) {
  v1::GetLoadResponse message;
  message.set_state(std::string(server_state_name(frontend.state())));
  message.set_in_house(frontend.in_house());
  message.set_max_in_house(frontend.max_in_house());
  const ServingModel* model = frontend.model();
  if (model == nullptr) return message;
  const EngineStats stats = frontend.engine_stats();
  const BlockManagerStats& blocks = stats.scheduler.blocks;
  const auto tokens = [model](int pages) { return std::int64_t{pages} * model->info.page_tokens; };
  message.set_waiting(stats.scheduler.num_waiting + static_cast<int>(stats.mailbox_depth));
  message.set_running(stats.scheduler.num_running);
  message.set_max_running(model->info.max_num_seqs);
  message.set_kv_tokens_total(tokens(blocks.total));
  message.set_kv_tokens_used(tokens(blocks.used));
  message.set_kv_tokens_promised(tokens(blocks.promised));
  message.set_kv_tokens_cached(tokens(blocks.cached));
  message.set_kv_usage(blocks.usage());
  message.set_prompt_tokens(stats.scheduler.prompt_tokens_computed);
  message.set_cached_tokens(stats.scheduler.prompt_tokens_cached);
  message.set_generated_tokens(stats.scheduler.generated_tokens);
  message.set_steps(stats.steps);
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
