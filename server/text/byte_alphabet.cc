#include "server/text/byte_alphabet.h"

#include <array>
#include <cstddef>

#include "server/text/utf8.h"

namespace latentd {

namespace {

constexpr char32_t kFirstStandIn = 0x100;

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
}

constexpr std::array<char32_t, 256> kCharacters = [] {
  std::array<char32_t, 256> characters{};
  char32_t next = kFirstStandIn;
  for (unsigned byte = 0; byte < 256; ++byte) {
    characters[byte] = stands_for_itself(byte) ? byte : next++;
  }
  return characters;
}();

constexpr std::array<short, kFirstStandIn + 68> kBytes = [] {
  std::array<short, kFirstStandIn + 68> bytes{};
  bytes.fill(-1);
  for (short byte = 0; byte < 256; ++byte)
    bytes[kCharacters[static_cast<std::size_t>(byte)]] = byte;
  return bytes;
}();

}  // namespace

char32_t byte_to_character(unsigned char byte) { return kCharacters[byte]; }

std::optional<unsigned char> character_to_byte(char32_t character) {
  if (character >= kBytes.size() || kBytes[character] < 0) return std::nullopt;
  return static_cast<unsigned char>(kBytes[character]);
}

std::optional<std::string> bytes_of_spelling(std::string_view spelling) {
  std::string bytes;
  bytes.reserve(spelling.size());
  for (std::size_t at = 0; at < spelling.size();) {
    std::size_t size = 0;
    const auto byte = character_to_byte(utf8::decode_valid(spelling.data() + at, size));
    if (!byte) return std::nullopt;
    bytes.push_back(static_cast<char>(*byte));
    at += size;
  }
  return bytes;
}

std::string spelling_of_bytes(std::string_view bytes) {
  std::string spelling;
  for (const char byte : bytes) {
    utf8::append(byte_to_character(static_cast<unsigned char>(byte)), spelling);
  }
  return spelling;
}

}  // namespace latentd
