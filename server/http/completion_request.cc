#include "server/http/completion_request.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "server/http/json_fields.h"

namespace latentd {
namespace {

Status bad_prompt() {
  return invalid_argument(
      "prompt", "must be a string, a list of strings, a list of token ids or a list of such lists");
}

Result<std::vector<TokenId>> read_ids(const Json& list) {
  std::vector<TokenId> ids;
  ids.reserve(list.size());
  for (const Json& item : list) {
    const auto id = as_int(item);
    if (!id) return bad_prompt();
    ids.push_back(*id);
  }
  return ids;
}

Status read_prompts(const JsonFields& fields, std::vector<Prompt>& prompts) {
  const Json* prompt = fields.find("prompt");
  if (prompt == nullptr) return invalid_argument("prompt", "is required");
  if (prompt->is_string()) {
    prompts.emplace_back(prompt->get_ref<const std::string&>());
    return ok_status();
  }
  if (!prompt->is_array()) return bad_prompt();
  if (prompt->empty()) return invalid_argument("prompt", "must not be empty");
  if (prompt->front().is_number()) {
    LATENTD_ASSIGN_OR_RETURN(auto ids, read_ids(*prompt));
    prompts.emplace_back(std::move(ids));
    return ok_status();
  }
  for (const Json& item : *prompt) {
    if (item.is_string()) {
      prompts.emplace_back(item.get_ref<const std::string&>());
    } else if (item.is_array()) {
      LATENTD_ASSIGN_OR_RETURN(auto ids, read_ids(item));
      prompts.emplace_back(std::move(ids));
    } else {
      return bad_prompt();
    }
  }
  return ok_status();
}

void read_stop(JsonFields& fields, std::vector<std::string>& stop) {
  const Json* value = fields.find("stop");
  if (value == nullptr) return;
  if (value->is_string()) {
    stop = {value->get_ref<const std::string&>()};
    return;
  }
  if (!value->is_array()) return fields.fault("stop", "must be a string or a list of strings");
  for (const Json& item : *value) {
    if (!item.is_string()) return fields.fault("stop", "must be a string or a list of strings");
    stop.push_back(item.get_ref<const std::string&>());
  }
}

void read_logit_bias(JsonFields& fields, std::vector<std::pair<TokenId, double>>& bias) {
  const Json* value = fields.find("logit_bias");
  if (value == nullptr) return;
  if (!value->is_object()) return fields.fault("logit_bias", "must map token ids to numbers");
  for (const auto& [key, number] : value->items()) {
    TokenId token = 0;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), token);
    if (parsed.ec != std::errc() || parsed.ptr != key.data() + key.size() || !number.is_number()) {
      return fields.fault("logit_bias", "must map token ids to numbers");
    }
    bias.emplace_back(token, number.get<double>());
  }
}

void read_stream_options(JsonFields& fields, CompletionRequest& request) {
  const Json* value = fields.find("stream_options");
  if (value == nullptr) return;
  if (!value->is_object()) return fields.fault("stream_options", "must be an object");
  JsonFields options(*value);
  options.read("include_usage", request.include_usage);
  if (!options.status().ok()) {
    fields.fault("stream_options", "include_usage must be true or false");
  }
}

Status check_refused(const JsonFields& fields, int n) {
  if (const Json* suffix = fields.find("suffix");
      suffix != nullptr && !(suffix->is_string() && suffix->empty())) {
    return invalid_argument("suffix", "is not supported: the model does not fill in the middle");
  }
  if (const Json* best_of = fields.find("best_of"); best_of != nullptr && as_int(*best_of) != n) {
    return invalid_argument("best_of", "is not supported: use n");
  }
  return ok_status();
}

void read_sampling(JsonFields& fields, GenerationRequest& generation) {
  fields.read("temperature", generation.temperature);
  fields.read("top_p", generation.top_p);
  fields.read("top_k", generation.top_k);
  fields.read("min_p", generation.min_p);
  fields.read("repetition_penalty", generation.repetition_penalty);
  fields.read("presence_penalty", generation.presence_penalty);
  fields.read("frequency_penalty", generation.frequency_penalty);
  fields.read_seed("seed", generation.seed);
  read_logit_bias(fields, generation.logit_bias);
}

void read_logprobs(JsonFields& fields, GenerationRequest& generation) {
  std::optional<int> logprobs;
  fields.read("logprobs", logprobs);
  if (!logprobs) return;
  if (*logprobs < 0) {
    return fields.fault("logprobs", "must be between 0 and " + std::to_string(kMaxLogprobs) +
                                        ", got " + std::to_string(*logprobs));
  }
  generation.logprobs = *logprobs;
}

}  // namespace

Result<CompletionRequest> parse_completion(std::string_view body) {
  LATENTD_ASSIGN_OR_RETURN(const Json json, parse_json(body));
  if (!json.is_object()) {
    return Status(StatusCode::kInvalidArgument, "the body must be a JSON object");
  }
  CompletionRequest request;
  GenerationRequest& generation = request.generation;
  JsonFields fields(json);
  fields.read("model", generation.model);
  fields.read("n", generation.n);
  fields.read("max_tokens", generation.max_tokens);
  fields.read("min_tokens", generation.min_tokens);
  read_stop(fields, generation.stop);
  fields.read("stop_token_ids", generation.stop_token_ids);
  fields.read("ignore_eos", generation.ignore_eos);
  fields.read("include_stop_str_in_output", generation.include_stop_in_output);
  fields.read("skip_special_tokens", generation.skip_special_tokens);
  read_sampling(fields, generation);
  read_logprobs(fields, generation);
  fields.read("priority", generation.priority);
  fields.read("stream", request.stream);
  read_stream_options(fields, request);
  fields.read("echo", request.echo);
  fields.read("return_token_ids", request.return_token_ids);
  LATENTD_RETURN_IF_ERROR(fields.status());
  LATENTD_RETURN_IF_ERROR(check_refused(fields, generation.n));
  LATENTD_RETURN_IF_ERROR(read_prompts(fields, generation.prompts));
  generation.prompt_logprobs = request.echo && generation.logprobs >= 0;
  return request;
}

}  // namespace latentd
