// Escapes of a string literal, as Python reads them.
//
// Contract: pure.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace latentd::jinja {

// The value of what stands between the quotes. An escape that Python does not know stays as it is
// written. Errors (kInvalidArgument): an incomplete escape, \N{...}, surrogates and what is no code
// point.
Result<std::string> unescape_string(std::string_view body);

}  // namespace latentd::jinja
