#include "server/http/generation_fields.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "server/json_value.h"

namespace latentd {
namespace {

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

void read_stream_options(JsonFields& fields, OutputFields& output) {
  const Json* value = fields.find("stream_options");
  if (value == nullptr) return;
  if (!value->is_object()) return fields.fault("stream_options", "must be an object");
  JsonFields options(*value);
  options.read("include_usage", output.include_usage);
  options.read("continuous_usage_stats", output.continuous_usage);
  if (!options.status().ok()) {
    fields.fault("stream_options", options.status().field() + " must be true or false");
  }
}

// The schema in a response_format: where OpenAI has it, or beside the type as llama.cpp does.
const jinja::Value* schema_of(const jinja::Value& format) {
  const jinja::Value* outer = format.map().find("json_schema");
  const jinja::Value& holder = outer != nullptr && outer->is(jinja::Kind::kMap) ? *outer : format;
  return holder.map().find("schema");
}

bool asks_for_something(const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_string()) return !value.get_ref<const std::string&>().empty();
  return !value.is_structured() || !value.empty();
}

}  // namespace

void read_generation_fields(JsonFields& fields, GenerationRequest& generation) {
  fields.read("model", generation.model);
  fields.read("n", generation.n);
  fields.read("max_tokens", generation.max_tokens);
  fields.read("min_tokens", generation.min_tokens);
  read_stop(fields, generation.stop);
  fields.read("stop_token_ids", generation.stop_token_ids);
  fields.read("ignore_eos", generation.ignore_eos);
  fields.read("include_stop_str_in_output", generation.include_stop_in_output);
  fields.read("skip_special_tokens", generation.skip_special_tokens);
  fields.read("add_special_tokens", generation.add_special_tokens);
  fields.read("temperature", generation.temperature);
  fields.read("top_p", generation.top_p);
  fields.read("top_k", generation.top_k);
  fields.read("min_p", generation.min_p);
  fields.read("repetition_penalty", generation.repetition_penalty);
  fields.read("presence_penalty", generation.presence_penalty);
  fields.read("frequency_penalty", generation.frequency_penalty);
  fields.read_seed("seed", generation.seed);
  read_logit_bias(fields, generation.logit_bias);
  if (fields.find("allowed_token_ids") != nullptr) {
    fields.read("allowed_token_ids", generation.allowed_token_ids.emplace());
  }
  fields.read("cache_salt", generation.cache_salt);
  fields.read("bad_words", generation.bad_words);
  fields.read("priority", generation.priority);
}

void read_output_fields(JsonFields& fields, OutputFields& output) {
  fields.read("stream", output.stream);
  read_stream_options(fields, output);
  fields.read("return_token_ids", output.return_token_ids);
  fields.read("cost_report", output.cost);
}

void read_prompt_logprobs(JsonFields& fields, const OutputFields& output,
                          GenerationRequest& generation) {
  constexpr const char* kName = "prompt_logprobs";
  std::optional<int> wanted;
  fields.read(kName, wanted);
  if (!wanted) return;
  if (*wanted < 0) {
    return fields.fault(kName, "must be between 0 and " + std::to_string(kMaxLogprobs) + ", got " +
                                   std::to_string(*wanted));
  }
  if (output.stream) return fields.fault(kName, "cannot be streamed");
  generation.prompt_logprobs = *wanted;
}

void read_response_format(JsonFields& fields, std::string_view text,
                          GenerationRequest& generation) {
  constexpr const char* kName = "response_format";
  const Json* format = fields.find(kName);
  if (format == nullptr) return;
  const auto type = format->is_object() ? format->find("type") : format->end();
  if (type == format->end()) return fields.fault(kName, "must be an object with a type");
  if (*type == "text") return;
  if (*type != "json_object" && *type != "json_schema") {
    return fields.fault(kName, "type must be text, json_object or json_schema");
  }
  const jinja::Value body = value_of_json(text);
  const jinja::Value* schema = schema_of(*body.map().find(kName));
  if (schema != nullptr && !schema->is(jinja::Kind::kNone)) {
    generation.format = OutputFormat::kJsonSchema;
    generation.json_schema = json_of_value(*schema);
  } else if (*type == "json_object") {
    generation.format = OutputFormat::kJsonObject;
  } else {
    fields.fault(kName, "json_schema.schema is required");
  }
}

void check_refused(JsonFields& fields, std::span<const RefusedField> refused) {
  for (const RefusedField& field : refused) {
    const Json* value = fields.find(field.name);
    if (value != nullptr && asks_for_something(*value)) fields.fault(field.name, field.why);
  }
}

}  // namespace latentd
