#include "server/text/schema/json_string.h"

namespace latentd {

namespace {

using S = StringState;

class Builder {
 public:
  explicit Builder(StringSpelling spelling) {
    for (auto& row : table_) row.fill(kStringReject);
    body();
    escapes(spelling);
    utf8();
  }
  StringTable take() const { return table_; }

 private:
  void set(S from, int first, int last, S to) {
    for (int byte = first; byte <= last; ++byte) {
      table_[static_cast<std::size_t>(from)][static_cast<std::size_t>(byte)] =
          static_cast<std::uint8_t>(to);
    }
  }
  void hex(S from, S to) {
    set(from, '0', '9', to);
    set(from, 'a', 'f', to);
    set(from, 'A', 'F', to);
  }

  void body() {
    set(S::kBody, 0x20, 0x7F, S::kBody);
    set(S::kBody, '\\', '\\', S::kEscape);
    table_[static_cast<std::size_t>(S::kBody)]['"'] = kStringClose;
  }

  void escapes(StringSpelling spelling) {
    for (const char c : {'"', '\\', 'b', 'f', 'n', 'r', 't'}) set(S::kEscape, c, c, S::kBody);
    if (spelling == StringSpelling::kCanonical) return;
    set(S::kEscape, '/', '/', S::kBody);
    set(S::kEscape, 'u', 'u', S::kHex1);
    hex(S::kHex1, S::kHex2);
    for (const char d : {'d', 'D'}) {
      set(S::kHex1, d, d, S::kHexD);
      set(S::kLowD, d, d, S::kLowC);
    }
    set(S::kHexD, '0', '7', S::kHex3);
    set(S::kHexD, '8', '9', S::kHigh3);
    set(S::kHexD, 'a', 'b', S::kHigh3);
    set(S::kHexD, 'A', 'B', S::kHigh3);
    hex(S::kHex2, S::kHex3);
    hex(S::kHex3, S::kHex4);
    hex(S::kHex4, S::kBody);
    hex(S::kHigh3, S::kHigh4);
    hex(S::kHigh4, S::kHighDone);
    set(S::kHighDone, '\\', '\\', S::kLowU);
    set(S::kLowU, 'u', 'u', S::kLowD);
    set(S::kLowC, 'c', 'f', S::kHex3);
    set(S::kLowC, 'C', 'F', S::kHex3);
  }

  // The Unicode Standard, table 3-7.
  void utf8() {
    set(S::kBody, 0xC2, 0xDF, S::kTail1);
    set(S::kBody, 0xE0, 0xEF, S::kTail2);
    set(S::kBody, 0xE0, 0xE0, S::kAfterE0);
    set(S::kBody, 0xED, 0xED, S::kAfterED);
    set(S::kBody, 0xF0, 0xF3, S::kTail3);
    set(S::kBody, 0xF0, 0xF0, S::kAfterF0);
    set(S::kBody, 0xF4, 0xF4, S::kAfterF4);
    set(S::kTail1, 0x80, 0xBF, S::kBody);
    set(S::kTail2, 0x80, 0xBF, S::kTail1);
    set(S::kTail3, 0x80, 0xBF, S::kTail2);
    set(S::kAfterE0, 0xA0, 0xBF, S::kTail1);
    set(S::kAfterED, 0x80, 0x9F, S::kTail1);
    set(S::kAfterF0, 0x90, 0xBF, S::kTail2);
    set(S::kAfterF4, 0x80, 0x8F, S::kTail2);
  }

  StringTable table_;
};

}  // namespace

const StringTable& string_table(StringSpelling spelling) {
  static const StringTable free_table = Builder(StringSpelling::kFree).take();
  static const StringTable canonical_table = Builder(StringSpelling::kCanonical).take();
  return spelling == StringSpelling::kFree ? free_table : canonical_table;
}

void append_json_string(std::string_view text, std::string& out) {
  constexpr std::string_view kHexDigits = "0123456789abcdef";
  constexpr std::string_view kSpecial = "\"\\\b\f\n\r\t";
  constexpr std::string_view kLetters = "\"\\bfnrt";
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const std::size_t special = kSpecial.find(c);
    if (special != std::string_view::npos) {
      out += '\\';
      out += kLetters[special];
    } else if (byte < 0x20) {
      out += "\\u00";
      out += kHexDigits[byte >> 4];
      out += kHexDigits[byte & 15];
    } else {
      out += c;
    }
  }
  out += '"';
}

}  // namespace latentd
