// The inside of a JSON string, byte by byte: well-formed UTF-8, no bare control characters, escapes
// as RFC 8259 has them, and \uD800 .. \uDFFF only in pairs that make a character.
//
// Contract: constants and pure functions.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace latentd {

// Where one is in a string. Characters begin in kBody alone.
enum class StringState : std::uint8_t {
  kBody,
  kEscape,    // after a backslash
  kHex1,      // after \u
  kHexD,      // after \uD
  kHex2,      // two, then
  kHex3,      // ... and
  kHex4,      // one more digit
  kHigh3,     // inside of a high surrogate
  kHigh4,     //
  kHighDone,  // after one: a backslash,
  kLowU,      // u,
  kLowD,      // D,
  kLowC,      // C to F
  kTail1,     // continuation bytes missing: one,
  kTail2,     // two,
  kTail3,     // three;
  kAfterE0,   // and where the second byte is narrower
  kAfterED,
  kAfterF0,
  kAfterF4,
  kCount,
};

// kFree: every spelling. kCanonical: the one spelling that append_json_string writes, without
// characters that need \u.
enum class StringSpelling : std::uint8_t { kFree, kCanonical };

inline constexpr std::uint8_t kStringReject = 0xFF;
inline constexpr std::uint8_t kStringClose = 0xFE;  // the closing quote

using StringTable =
    std::array<std::array<std::uint8_t, 256>, static_cast<std::size_t>(StringState::kCount)>;

// next[state][byte]: a StringState, kStringClose or kStringReject.
const StringTable& string_table(StringSpelling spelling);

// Appends `text` quoted, in its canonical spelling: UTF-8 as it is, \" \\ \b \f \n \r \t, and
// \u00xx for the other control characters. REQUIRES: valid UTF-8.
void append_json_string(std::string_view text, std::string& out);

}  // namespace latentd
