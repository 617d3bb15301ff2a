// The byte-level alphabet: a printable character for every byte (Radford et al., GPT-2, 2019).
//
// Printable Latin-1 bytes are themselves; the other 68 are U+0100 .. U+0143 in byte order.
// Contract: pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace latentd {

char32_t byte_to_character(unsigned char byte);
std::optional<unsigned char> character_to_byte(char32_t character);

// The bytes that a token's spelling stands for; nothing when a character is not of the alphabet.
// REQUIRES: `spelling` is valid UTF-8.
std::optional<std::string> bytes_of_spelling(std::string_view spelling);

std::string spelling_of_bytes(std::string_view bytes);

}  // namespace latentd
