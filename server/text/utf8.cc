#include "server/text/utf8.h"

namespace latentd::utf8 {

namespace {

bool is_ascii(std::string_view bytes) {
  unsigned char all = 0;
  for (const char c : bytes) all = static_cast<unsigned char>(all | static_cast<unsigned char>(c));
  return all < 0x80;
}

}  // namespace

Decoded decode(std::string_view bytes) {
  const auto byte = [bytes](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {Outcome::kCharacter, 1, lead};
  if (lead < 0xC2 || lead > 0xF4) return {Outcome::kInvalid, 1, 0};
  const std::size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range keeps out overlong forms, surrogates and what is past U+10FFFF.
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t i = 1; i < size; ++i) {
    if (i == bytes.size()) return {Outcome::kIncomplete, i, 0};
    const bool fits = i == 1 ? byte(1) >= low && byte(1) <= high : (byte(i) & 0xC0) == 0x80;
    if (!fits) return {Outcome::kInvalid, i, 0};
  }
  std::size_t decoded_size = 0;
  const char32_t code_point = decode_valid(bytes.data(), decoded_size);
  return {Outcome::kCharacter, decoded_size, code_point};
}

bool valid(std::string_view bytes) {
  while (!bytes.empty()) {
    const Decoded next = decode(bytes);
    if (next.outcome != Outcome::kCharacter) return false;
    bytes.remove_prefix(next.size);
  }
  return true;
}

std::size_t append_complete(std::string_view bytes, std::string& out) {
  if (is_ascii(bytes)) {
    out.append(bytes);
    return 0;
  }
  while (!bytes.empty()) {
    const Decoded next = decode(bytes);
    if (next.outcome == Outcome::kIncomplete) return next.size;
    out.append(next.outcome == Outcome::kCharacter ? bytes.substr(0, next.size) : kReplacement);
    bytes.remove_prefix(next.size);
  }
  return 0;
}

std::string replace_invalid(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  if (append_complete(bytes, out) > 0) out.append(kReplacement);
  return out;
}

void append(char32_t code_point, std::string& out) {
  const auto push = [&out](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    push(code_point);
  } else if (code_point < 0x800) {
    push(0xC0 | (code_point >> 6));
    push(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    push(0xE0 | (code_point >> 12));
    push(0x80 | ((code_point >> 6) & 0x3F));
    push(0x80 | (code_point & 0x3F));
  } else {
    push(0xF0 | (code_point >> 18));
    push(0x80 | ((code_point >> 12) & 0x3F));
    push(0x80 | ((code_point >> 6) & 0x3F));
    push(0x80 | (code_point & 0x3F));
  }
}

}  // namespace latentd::utf8
