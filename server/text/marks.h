// Marks: fixed texts that say what the text around them is ("</think>", "<tool_call>").
//
// Contract: pure functions.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace latentd {

inline constexpr std::string_view kWhiteSpace = " \t\r\n";

// Bytes at the end of `text` that may become `mark`.
inline std::size_t begun_mark(std::string_view text, std::string_view mark) {
  if (mark.empty()) return 0;
  for (std::size_t size = std::min(text.size(), mark.size() - 1); size > 0; --size) {
    if (mark.starts_with(text.substr(text.size() - size))) return size;
  }
  return 0;
}

// True while `text` is the front of `mark` and not all of it.
inline bool may_become(std::string_view text, std::string_view mark) {
  return text.size() < mark.size() && mark.starts_with(text);
}

}  // namespace latentd
