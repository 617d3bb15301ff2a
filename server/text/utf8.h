// UTF-8: decoding, and what to do with bytes that are not.
//
// "Maximal invalid part" is Unicode's "maximal subpart of an ill-formed subsequence" (The Unicode
// Standard, section 3.9, U+FFFD substitution): what Rust's and Python's replacing decoders use.
// Contract: pure functions.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace latentd::utf8 {

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

enum class Outcome {
  kCharacter,   // a whole character of `size` bytes
  kInvalid,     // `size` bytes that can never become one
  kIncomplete,  // `size` bytes, all that is there, are the start of one
};

struct Decoded {
  Outcome outcome;
  std::size_t size;
  char32_t code_point;  // of kCharacter
};

// What `bytes` start with. REQUIRES: not empty.
Decoded decode(std::string_view bytes);

// The code point at `position` of text known to be valid, and its size in bytes.
inline char32_t decode_valid(const char* at, std::size_t& size) {
  const auto byte = [at](int i) {
    return static_cast<char32_t>(static_cast<unsigned char>(at[i]));
  };
  const char32_t lead = byte(0);
  if (lead < 0x80) {
    size = 1;
    return lead;
  }
  if (lead < 0xE0) {
    size = 2;
    return ((lead & 0x1F) << 6) | (byte(1) & 0x3F);
  }
  if (lead < 0xF0) {
    size = 3;
    return ((lead & 0x0F) << 12) | ((byte(1) & 0x3F) << 6) | (byte(2) & 0x3F);
  }
  size = 4;
  return ((lead & 0x07) << 18) | ((byte(1) & 0x3F) << 12) | ((byte(2) & 0x3F) << 6) |
         (byte(3) & 0x3F);
}

bool valid(std::string_view bytes);

// Appends `bytes` to `out`, every maximal invalid part as U+FFFD. An incomplete character at the
// end is left out: the number of its bytes is returned.
std::size_t append_complete(std::string_view bytes, std::string& out);

// `bytes` with every maximal invalid part, an incomplete end included, as U+FFFD.
std::string replace_invalid(std::string_view bytes);

// REQUIRES: a scalar value.
void append(char32_t code_point, std::string& out);

}  // namespace latentd::utf8
