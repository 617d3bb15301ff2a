// Percent-encoding (RFC 3986 2.1), read.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace latentd {

// Decodes %XX once. Nothing when an escape is malformed or stands for NUL.
std::optional<std::string> percent_decode(std::string_view text);

}  // namespace latentd
