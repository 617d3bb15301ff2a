#include "server/grpc/vllm_convert.h"

#include <spdlog/fmt/chrono.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "server/version.h"

namespace latentd {
namespace {

template <typename Ids>
std::vector<TokenId> to_tokens(const Ids& ids) {
  std::vector<TokenId> tokens;
  tokens.reserve(static_cast<std::size_t>(ids.size()));
  // What does not fit becomes negative, and the validator says so.
  for (const auto id : ids) tokens.push_back(static_cast<TokenId>(id));
  return tokens;
}

// Beyond an int is beyond every limit.
int to_int(std::uint32_t value) {
  return static_cast<int>(std::min<std::uint32_t>(value, 1U << 30));
}

std::optional<double> unless_zero(float value) {
  return value == 0.0F ? std::nullopt : std::optional<double>(value);
}

Status check_refused(const vllm_engine::GenerateRequest& message) {
  const auto refuse = [](const char* field, const char* why) {
    return invalid_argument(field, why);
  };
  if (!message.mm_inputs().empty()) return refuse("mm_inputs", "the model reads text alone");
  if (!message.media_refs().empty()) return refuse("media_refs", "nothing is fetched");
  if (!message.kv_transfer_params().empty() || message.has_kv_transfer_params_json()) {
    return refuse("kv_transfer_params", "prefill and decode are not apart here");
  }
  const vllm_engine::SamplingParams& params = message.sampling_params();
  if (params.has_truncate_prompt_tokens()) {
    return refuse("truncate_prompt_tokens", "send what fits into the context");
  }
  switch (params.constraint_case()) {
    case vllm_engine::SamplingParams::kRegex:
      return refuse("regex", "is not supported: use json_schema");
    case vllm_engine::SamplingParams::kGrammar:
      return refuse("grammar", "is not supported: use json_schema");
    case vllm_engine::SamplingParams::kStructuralTag:
      return refuse("structural_tag", "is not supported: use json_schema");
    case vllm_engine::SamplingParams::kChoice:
      return refuse("choice", "is not supported: use json_schema");
    default:
      return ok_status();
  }
}

Status read_logprobs(const vllm_engine::SamplingParams& params, GenerationRequest& request) {
  constexpr const char* kRange = "must be between 0 and 20";
  if (params.has_logprobs()) {
    if (params.logprobs() < 0) return invalid_argument("logprobs", kRange);
    request.logprobs = params.logprobs();
  }
  if (params.has_prompt_logprobs()) {
    if (params.prompt_logprobs() < 0) return invalid_argument("prompt_logprobs", kRange);
    request.prompt_logprobs = params.prompt_logprobs();
  }
  return ok_status();
}

void read_params(const vllm_engine::SamplingParams& params, GenerationRequest& request) {
  request.temperature = params.has_temperature() ? params.temperature() : 1.0;
  request.top_p = unless_zero(params.top_p()).value_or(1.0);
  request.top_k = to_int(params.top_k());
  request.min_p = params.min_p();
  request.frequency_penalty = params.frequency_penalty();
  request.presence_penalty = params.presence_penalty();
  request.repetition_penalty = unless_zero(params.repetition_penalty()).value_or(1.0);
  if (params.has_max_tokens()) request.max_tokens = to_int(params.max_tokens());
  request.min_tokens = to_int(params.min_tokens());
  request.stop.assign(params.stop().begin(), params.stop().end());
  request.stop_token_ids = to_tokens(params.stop_token_ids());
  request.ignore_eos = params.ignore_eos();
  request.n = params.n() == 0 ? 1 : to_int(params.n());
  if (params.has_seed()) request.seed = static_cast<std::uint64_t>(std::int64_t{params.seed()});
  request.include_stop_in_output = params.include_stop_str_in_output();
  for (const auto& [token, bias] : params.logit_bias()) {
    request.logit_bias.emplace_back(token, bias);
  }
  if (params.constraint_case() == vllm_engine::SamplingParams::kJsonSchema) {
    request.format = OutputFormat::kJsonSchema;
    request.json_schema = params.json_schema();
  } else if (params.json_object()) {
    request.format = OutputFormat::kJsonObject;
  }
}

template <typename LogProbs>
void add_top(const TokenPiece& piece, LogProbs& out) {
  vllm_engine::TopLogProbs& top = *out.add_top_logprobs();
  for (const TokenLogprob& entry : piece.top) {
    top.add_values(entry.logprob);
    top.add_token_ids(static_cast<std::uint32_t>(entry.token));
  }
}

void fill_output(const std::vector<TokenPiece>& tokens, vllm_engine::OutputLogProbs& out) {
  for (const TokenPiece& piece : tokens) {
    out.add_token_logprobs(piece.token.logprob);
    out.add_token_ids(static_cast<std::uint32_t>(piece.token.token));
    add_top(piece, out);
  }
}

const char* reason_of(FinishKind kind) {
  switch (kind) {
    case FinishKind::kStop:
      return "stop";
    case FinishKind::kLength:
      return "length";
    case FinishKind::kCancelled:
      return "abort";
  }
  return "error";
}

template <typename Message>
void fill_counts(const Usage& usage, int generated, Message& message) {
  message.set_prompt_tokens(static_cast<std::uint32_t>(usage.prompt_tokens));
  message.set_completion_tokens(static_cast<std::uint32_t>(generated));
  message.set_cached_tokens(static_cast<std::uint32_t>(usage.cached_tokens));
}

std::string default_sampling(const GenerationDefaults& defaults) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  if (defaults.temperature) json["temperature"] = *defaults.temperature;
  if (defaults.top_p) json["top_p"] = *defaults.top_p;
  if (defaults.top_k) json["top_k"] = *defaults.top_k;
  if (defaults.min_p) json["min_p"] = *defaults.min_p;
  if (defaults.repetition_penalty) json["repetition_penalty"] = *defaults.repetition_penalty;
  return json.empty() ? std::string() : json.dump();
}

double unix_now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

Result<GenerationRequest> to_generation_request(const vllm_engine::GenerateRequest& message,
                                                const ServingModel& model) {
  LATENTD_RETURN_IF_ERROR(check_refused(message));
  GenerationRequest request;
  request.default_max_tokens = model.info.max_model_len;
  switch (message.input_case()) {
    case vllm_engine::GenerateRequest::kTokenized:
      request.prompts.emplace_back(to_tokens(message.tokenized().input_ids()));
      break;
    case vllm_engine::GenerateRequest::kText:
      request.prompts.emplace_back(message.text());
      break;
    default:
      return invalid_argument("input", "tokenized or text is required");
  }
  read_params(message.sampling_params(), request);
  LATENTD_RETURN_IF_ERROR(read_logprobs(message.sampling_params(), request));
  return request;
}

VllmChoice::VllmChoice(int index, const GenerationRequest& request, std::vector<TokenId> prompt)
    : index_(index),
      logprobs_(request.logprobs >= 0),
      prompt_logprobs_(request.prompt_logprobs >= 0),
      prompt_(std::move(prompt)) {}

void VllmChoice::keep(const ChoiceDelta& delta) {
  tokens_.insert(tokens_.end(), delta.tokens.begin(), delta.tokens.end());
  prompt_pieces_.insert(prompt_pieces_.end(), delta.prompt_tokens.begin(),
                        delta.prompt_tokens.end());
  generated_ += static_cast<int>(delta.tokens.size());
}

void VllmChoice::fill_prompt(vllm_engine::InputLogProbs& out) {
  prompt_shown_ = true;
  out.add_token_logprobs();
  out.add_top_logprobs();
  for (const TokenPiece& piece : prompt_pieces_) {
    out.add_token_logprobs()->set_value(piece.token.logprob);
    add_top(piece, out);
  }
  for (const TokenId token : prompt_) out.add_token_ids(static_cast<std::uint32_t>(token));
}

bool VllmChoice::fill_chunk(const ChoiceDelta& delta, const Usage& usage,
                            vllm_engine::GenerateStreamChunk& chunk) {
  if (delta.tokens.empty()) return false;
  chunk.set_index(static_cast<std::uint32_t>(index_));
  for (const TokenPiece& piece : delta.tokens) {
    chunk.add_token_ids(static_cast<std::uint32_t>(piece.token.token));
  }
  if (logprobs_) fill_output(delta.tokens, *chunk.mutable_output_logprobs());
  if (prompt_logprobs_ && !prompt_shown_) fill_prompt(*chunk.mutable_input_logprobs());
  fill_counts(usage, generated_, chunk);
  return true;
}

void VllmChoice::fill_complete(const Finish& finish, const Usage& usage,
                               vllm_engine::GenerateComplete& complete) {
  complete.set_index(static_cast<std::uint32_t>(index_));
  for (const TokenPiece& piece : tokens_) {
    complete.add_output_ids(static_cast<std::uint32_t>(piece.token.token));
  }
  complete.set_finish_reason(reason_of(finish.kind));
  if (logprobs_) fill_output(tokens_, *complete.mutable_output_logprobs());
  if (prompt_logprobs_) fill_prompt(*complete.mutable_input_logprobs());
  if (!finish.stop_string.empty()) {
    complete.set_matched_stop_str(finish.stop_string);
  } else if (finish.stop_token >= 0) {
    complete.set_matched_token_id(static_cast<std::uint32_t>(finish.stop_token));
  }
  fill_counts(usage, generated_, complete);
}

vllm_engine::GetModelInfoResponse to_model_info(const ServingModel& model) {
  vllm_engine::GetModelInfoResponse info;
  info.set_model_path(model.name());
  info.set_served_model_name(model.name());
  info.set_is_generation(true);
  info.set_max_context_length(static_cast<std::uint32_t>(model.info.max_model_len));
  info.set_max_req_input_len(model.info.max_model_len - 1);
  info.set_vocab_size(static_cast<std::uint32_t>(model.config.vocab_size));
  info.add_architectures(model.config.architecture);
  for (const TokenId token : model.end_tokens) info.add_eos_token_ids(token);
  info.set_default_sampling_params_json(default_sampling(model.defaults));
  return info;
}

vllm_engine::GetServerInfoResponse to_server_info(const Frontend& frontend) {
  vllm_engine::GetServerInfoResponse info;
  info.set_active_requests(static_cast<std::uint32_t>(frontend.in_house()));
  info.set_is_paused(!frontend.ready());
  info.set_server_type("latentd-grpc");
  info.set_data_parallel_size(1);
  info.set_constrained_decoding_start("first_token");
  const ServingModel* model = frontend.model();
  if (model == nullptr) return info;
  info.set_uptime_seconds(unix_now() - static_cast<double>(model->created_unix));
  info.set_kv_cache_dtype(std::string(dtype_name(model->info.kv_cache_dtype)));
  info.set_model_dtype(std::string(dtype_name(model->info.activation_dtype)));
  info.set_block_size(model->info.page_tokens);
  info.set_max_num_seqs(model->info.max_num_seqs);
  return info;
}

vllm_engine::GetLoadsResponse to_loads(const Frontend& frontend) {
  vllm_engine::GetLoadsResponse loads;
  const auto now =
      std::chrono::time_point_cast<std::chrono::seconds>(std::chrono::system_clock::now());
  loads.set_timestamp(
      fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::chrono::system_clock::to_time_t(now))));
  loads.set_version(std::string(kVersion));
  const ServingModel* model = frontend.model();
  if (model == nullptr) return loads;
  const SchedulerStats stats = frontend.engine_stats().scheduler;
  loads.set_dp_rank_count(1);
  vllm_engine::SchedulerLoad& load = *loads.add_loads();
  load.set_num_running_reqs(stats.num_running);
  load.set_num_waiting_reqs(stats.num_waiting);
  load.set_num_total_reqs(stats.num_running + stats.num_waiting);
  load.set_num_used_tokens(stats.blocks.used * model->info.page_tokens);
  load.set_max_total_num_tokens(stats.blocks.total * model->info.page_tokens);
  load.set_token_usage(stats.blocks.usage());
  const double queried = static_cast<double>(stats.prefix_queried_tokens);
  const double found = static_cast<double>(stats.prompt_tokens_cached);
  load.set_cache_hit_rate(queried > 0.0 ? found / queried : 0.0);
  load.set_max_running_requests(model->info.max_num_seqs);
  return loads;
}

}  // namespace latentd
