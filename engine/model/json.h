// The one door to nlohmann-json: text in, a checked document out.
//
// What came from outside is parsed here and nowhere else. Beyond RFC 8259 it refuses duplicate keys
// (two readers of one file must not see different values), nesting deeper than a limit and texts
// larger than a limit. Comments, trailing commas and invalid UTF-8 are errors.
//
// Contract: does not throw. This header brings only nlohmann's forward declarations; whoever looks
// into a document includes <nlohmann/json.hpp> in its .cc.
#pragma once

#include <cstddef>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace latentd {

using Json = nlohmann::json;

struct JsonLimits {
  std::size_t max_bytes = std::size_t{8} << 20;
  int max_depth = 64;  // of nested objects and arrays
};

// Errors: kInvalidArgument, saying what is wrong and at which byte; kResourceExhausted when the
// text is larger than max_bytes.
Result<Json> parse_json(std::string_view text, const JsonLimits& limits = {});

// The same from a file; errors are prefixed with its path, and those of MmapFile::open are added.
Result<Json> parse_json_file(const std::filesystem::path& path, const JsonLimits& limits = {});

// A whole file as text. Errors: those of MmapFile::open; kResourceExhausted beyond max_bytes.
Result<std::string> read_text_file(const std::filesystem::path& path, std::size_t max_bytes);

}  // namespace latentd
