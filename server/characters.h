// Characters: how long a text is for a client.
#pragma once

#include <algorithm>
#include <string_view>

namespace latentd {

// Unicode characters of valid UTF-8.
inline int count_characters(std::string_view text) {
  return static_cast<int>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

}  // namespace latentd
