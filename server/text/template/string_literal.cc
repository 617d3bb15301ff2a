#include "server/text/template/string_literal.h"

#include <spdlog/fmt/fmt.h>

#include <charconv>
#include <optional>

#include "server/text/utf8.h"

namespace latentd::jinja {

namespace {

std::optional<char> simple_escape(char c) {
  switch (c) {
    case 'n':
      return '\n';
    case 't':
      return '\t';
    case 'r':
      return '\r';
    case 'a':
      return '\a';
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'v':
      return '\v';
    case '\\':
    case '\'':
    case '"':
      return c;
    default:
      return std::nullopt;
  }
}

Status escape_error(std::string message) {
  return {StatusCode::kInvalidArgument, std::move(message)};
}

// Appends the code point of `digits` hexadecimal digits that follow `\x`, `\u` or `\U`.
Status append_hex(std::string_view body, std::size_t at, std::size_t digits, std::string& out) {
  const std::string_view text = body.substr(at, digits);
  std::uint32_t point = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), point, 16);
  if (text.size() < digits || error != std::errc() || end != text.data() + text.size()) {
    return escape_error("a string has an incomplete escape");
  }
  if (point > 0x10FFFF || (point >= 0xD800 && point < 0xE000)) {
    return escape_error(fmt::format("a string has an escape that is no character: {:x}", point));
  }
  utf8::append(point, out);
  return ok_status();
}

// Appends the code point of up to three octal digits; returns how many.
std::size_t append_octal(std::string_view body, std::size_t at, std::string& out) {
  char32_t point = 0;
  std::size_t size = 0;
  while (size < 3 && at + size < body.size() && body[at + size] >= '0' && body[at + size] <= '7') {
    point = point * 8 + static_cast<char32_t>(body[at + size] - '0');
    ++size;
  }
  utf8::append(point, out);
  return size;
}

}  // namespace

Result<std::string> unescape_string(std::string_view body) {
  std::string out;
  out.reserve(body.size());
  for (std::size_t i = 0; i < body.size(); ++i) {
    if (body[i] != '\\' || i + 1 == body.size()) {
      out += body[i];
      continue;
    }
    const char c = body[++i];
    if (const std::optional<char> simple = simple_escape(c); simple.has_value()) {
      out += *simple;
    } else if (c == '\n') {
      continue;
    } else if (c >= '0' && c <= '7') {
      i += append_octal(body, i, out) - 1;
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const std::size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      LATENTD_RETURN_IF_ERROR(append_hex(body, i + 1, digits, out));
      i += digits;
    } else if (c == 'N') {
      return escape_error("\\N{...} in a string is not supported");
    } else {
      out += '\\';
      out += c;
    }
  }
  return out;
}

}  // namespace latentd::jinja
