// GenerationDefaults: what a checkpoint's generation_config.json says about sampling and the end of
// a text.
//
// Contract: a plain value. A missing file is no error: all fields are then unset.
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace latentd {

struct GenerationDefaults {
  std::optional<float> temperature;  // do_sample: false reads as temperature 0
  std::optional<float> top_p;
  std::optional<int> top_k;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
  std::optional<int> max_new_tokens;
  std::vector<TokenId> eos_token_ids;  // eos_token_id, an int or a list
};

Result<GenerationDefaults> load_generation_defaults(const std::filesystem::path& directory);
Result<GenerationDefaults> parse_generation_defaults(std::string_view json);

}  // namespace latentd
