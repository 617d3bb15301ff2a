// SHA-256, through OpenSSL.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace latentd {

using Sha256 = std::array<std::uint8_t, 32>;

Sha256 sha256_of(std::string_view bytes);

// In lower case.
std::string hex_of(const Sha256& digest);

}  // namespace latentd
