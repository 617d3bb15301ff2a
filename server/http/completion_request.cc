#include "server/http/completion_request.h"

#include <algorithm>
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

Status check_unsupported(const JsonFields& fields) {
  if (const Json* suffix = fields.find("suffix"); suffix != nullptr && *suffix != "") {
    return invalid_argument("suffix", "is not supported: the model does not fill in the middle");
  }
  return ok_status();
}

// More choices are made than shown. To choose among them, their logprobs are needed.
void read_best_of(JsonFields& fields, CompletionRequest& request) {
  GenerationRequest& generation = request.generation;
  request.n = generation.n;
  std::optional<int> best_of;
  fields.read("best_of", best_of);
  if (!best_of || *best_of == request.n || request.n < 1) return;  // validate names a wrong n
  if (*best_of < request.n) {
    return fields.fault("best_of", "must be at least n (" + std::to_string(request.n) + "), got " +
                                       std::to_string(*best_of));
  }
  if (request.output.stream) return fields.fault("best_of", "cannot be streamed when above n");
  generation.n = *best_of;
  generation.logprobs = std::max(generation.logprobs, 0);
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
  LATENTD_ASSIGN_OR_RETURN(const Json json, parse_body(body));
  CompletionRequest request;
  GenerationRequest& generation = request.generation;
  JsonFields fields(json);
  read_generation_fields(fields, generation);
  read_output_fields(fields, request.output);
  read_logprobs(fields, generation);
  request.logprobs = generation.logprobs >= 0;
  read_best_of(fields, request);
  read_prompt_logprobs(fields, request.output, generation);
  read_response_format(fields, body, generation);
  fields.read("echo", request.echo);
  check_refused(fields, kRefusedEverywhere);
  LATENTD_RETURN_IF_ERROR(fields.status());
  LATENTD_RETURN_IF_ERROR(check_unsupported(fields));
  LATENTD_RETURN_IF_ERROR(read_prompts(fields, generation.prompts));
  if (request.echo && request.logprobs) {
    generation.prompt_logprobs = std::max(generation.prompt_logprobs, generation.logprobs);
  }
  return request;
}

}  // namespace latentd
