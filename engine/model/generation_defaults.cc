#include "engine/model/generation_defaults.h"

#include <nlohmann/json.hpp>
#include <string>

#include "engine/model/field_reader.h"
#include "engine/model/json.h"

namespace latentd {
namespace {

std::optional<float> read_float(FieldReader& fields, std::string_view name, RealRange range) {
  const auto value = fields.read_real(name, range);
  return value ? std::optional(static_cast<float>(*value)) : std::nullopt;
}

}  // namespace

Result<GenerationDefaults> parse_generation_defaults(std::string_view json) {
  LATENTD_ASSIGN_OR_RETURN(const Json document, parse_json(json));
  if (!document.is_object()) {
    return Status(StatusCode::kInvalidArgument, "generation defaults must be a JSON object");
  }
  FaultList faults;
  FieldReader fields(document, faults);
  GenerationDefaults defaults;
  defaults.temperature = read_float(fields, "temperature", {0.0, 2.0});
  defaults.top_p = read_float(fields, "top_p", {0.0, 1.0});
  defaults.top_k = fields.read_int("top_k", {0, INT32_MAX});
  defaults.min_p = read_float(fields, "min_p", {0.0, 1.0});
  defaults.repetition_penalty = read_float(fields, "repetition_penalty", {1e-3, 1e3});
  defaults.max_new_tokens = fields.read_int("max_new_tokens", {1, INT32_MAX});
  defaults.eos_token_ids = fields.read_token_ids("eos_token_id", {0, INT32_MAX});
  if (!fields.read_bool("do_sample", true)) defaults.temperature = 0.0F;
  if (!faults.empty()) return Status(StatusCode::kInvalidArgument, faults.to_string());
  return defaults;
}

Result<GenerationDefaults> load_generation_defaults(const std::filesystem::path& directory) {
  const auto path = directory / "generation_config.json";
  const auto text = read_text_file(path, JsonLimits{}.max_bytes);
  if (text.status().code() == StatusCode::kNotFound) return GenerationDefaults{};
  if (!text.ok()) return text.status();
  auto defaults = parse_generation_defaults(*text);
  if (defaults.ok()) return defaults;
  return Status(defaults.status().code(), path.string() + ": " + defaults.status().message());
}

}  // namespace latentd
