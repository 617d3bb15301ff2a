#include "server/text/template/lexer.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <optional>

#include "server/text/template/string_literal.h"
#include "server/text/template/unicode_text.h"
#include "server/text/utf8.h"

namespace latentd::jinja {

namespace {

// Longest first.
constexpr std::array<std::string_view, 27> kOperators = {
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]",
    "(",  ")",  "{",  "}",  ">",  "<",  "=", ".", ":", "|", ",", ";", ""};

bool is_ascii_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_char(char c) {
  return is_ascii_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

// Every line end as "\n"; the last one dropped.
std::string normalize_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
      out += '\n';
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer final {
 public:
  explicit Lexer(std::string_view source) : source_(normalize_newlines(source)) {}

  Result<std::vector<Token>> run() {
    while (at_ < source_.size()) LATENTD_RETURN_IF_ERROR(root());
    push(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  char peek(std::size_t ahead = 0) const {
    return at_ + ahead < source_.size() ? source_[at_ + ahead] : '\0';
  }

  void push(TokenKind kind, std::string text) { tokens_.push_back({kind, line_, std::move(text)}); }

  void advance(std::size_t bytes) {
    const auto from = source_.begin() + static_cast<std::ptrdiff_t>(at_);
    line_ += static_cast<int>(std::count(from, from + static_cast<std::ptrdiff_t>(bytes), '\n'));
    at_ += bytes;
  }

  void skip_space() {
    const std::string_view left = rest();
    advance(left.size() - strip_space(left, Side::kLeft).size());
  }

  // Text up to the next tag, then what the tag holds.
  Status root() {
    std::size_t open = at_;
    while (true) {
      open = source_.find('{', open);
      if (open == std::string::npos || open + 1 >= source_.size()) {
        push(TokenKind::kText, std::string(rest()));
        advance(source_.size() - at_);
        return ok_status();
      }
      const char next = source_[open + 1];
      if (next == '{' || next == '%' || next == '#') break;
      ++open;
    }
    const char kind = source_[open + 1];
    char sign = open + 2 < source_.size() ? source_[open + 2] : '\0';
    if (sign != '-' && sign != '+') sign = '\0';
    push_text(open, sign, kind != '{');
    advance(sign == '\0' ? 2 : 3);
    if (kind == '#') return comment();
    if (kind == '{') return tag(TokenKind::kPrintBegin, TokenKind::kPrintEnd);
    if (const std::optional<std::size_t> size = raw_begin(); size.has_value()) {
      const bool strips = source_[at_ + *size - 3] == '-';
      advance(*size);
      if (strips) skip_space();
      return raw();
    }
    return tag(TokenKind::kTagBegin, TokenKind::kTagEnd);
  }

  // The text before a tag at `end`: without white space before `-`, and without the indentation of
  // a tag that starts its line unless marked `+`.
  void push_text(std::size_t end, char sign, bool may_strip_line) {
    const std::string_view text = std::string_view(source_).substr(at_, end - at_);
    std::string_view kept = text;
    if (sign == '-') {
      kept = strip_space(text, Side::kRight);
    } else if (sign != '+' && may_strip_line) {
      const std::size_t newline = text.rfind('\n');
      const std::size_t line_start = newline == std::string_view::npos ? 0 : newline + 1;
      const bool starts_line = line_start > 0 || at_ == 0 || source_[at_ - 1] == '\n';
      if (starts_line && strip_space(text.substr(line_start), Side::kLeft).empty()) {
        kept = text.substr(0, line_start);
      }
    }
    if (!kept.empty()) push(TokenKind::kText, std::string(kept));
    advance(text.size());
  }

  // After the end of a tag: `-` takes all white space, none one line end, `+` nothing.
  void after_tag(char sign) {
    if (sign == '-') {
      skip_space();
    } else if (sign != '+' && peek() == '\n') {
      advance(1);
    }
  }

  Status comment() {
    const int line = line_;
    const std::size_t close = source_.find("#}", at_);
    if (close == std::string::npos) return syntax_error(line, "this comment does not end");
    char sign = close > at_ ? source_[close - 1] : '\0';
    if (sign != '-' && sign != '+') sign = '\0';
    advance(close + 2 - at_);
    after_tag(sign);
    return ok_status();
  }

  // Size of "raw %}" when that is what follows.
  std::optional<std::size_t> raw_begin() const {
    std::string_view left = strip_space(rest(), Side::kLeft);
    if (!left.starts_with("raw")) return std::nullopt;
    left = strip_space(left.substr(3), Side::kLeft);
    if (left.starts_with('-')) left.remove_prefix(1);
    if (!left.starts_with("%}")) return std::nullopt;
    return rest().size() - left.size() + 2;
  }

  Status raw() {
    const int line = line_;
    for (std::size_t open = source_.find("{%", at_); open != std::string::npos;
         open = source_.find("{%", open + 1)) {
      char sign = source_.size() > open + 2 ? source_[open + 2] : '\0';
      if (sign != '-' && sign != '+') sign = '\0';
      std::string_view left = std::string_view(source_).substr(open + (sign == '\0' ? 2 : 3));
      left = strip_space(left, Side::kLeft);
      if (!left.starts_with("endraw")) continue;
      left = strip_space(left.substr(6), Side::kLeft);
      char end_sign = left.empty() ? '\0' : left[0];
      if (end_sign == '-' || end_sign == '+') {
        left.remove_prefix(1);
      } else {
        end_sign = '\0';
      }
      if (!left.starts_with("%}")) continue;
      push_text(open, sign, true);
      advance(rest().size() - left.size() + 2);
      after_tag(end_sign);
      return ok_status();
    }
    return syntax_error(line, "this raw block does not end");
  }

  // Tokens up to the end of `{{` or `{%`.
  Status tag(TokenKind begin, TokenKind end) {
    push(begin, "");
    const std::string_view closing = end == TokenKind::kPrintEnd ? "}}" : "%}";
    std::string open_brackets;
    while (true) {
      if (at_ >= source_.size()) return syntax_error(line_, "the template ends inside a tag");
      if (open_brackets.empty()) {
        const bool plus_ends = end == TokenKind::kTagEnd;
        char sign = peek();
        if (sign != '-' && !(sign == '+' && plus_ends)) sign = '\0';
        if (rest().substr(sign == '\0' ? 0 : 1).starts_with(closing)) {
          push(end, "");
          advance(sign == '\0' ? 2 : 3);
          if (sign == '-' || plus_ends) after_tag(sign);
          return ok_status();
        }
      }
      LATENTD_RETURN_IF_ERROR(token(open_brackets));
    }
  }

  Status token(std::string& open_brackets) {
    const std::size_t before = at_;
    skip_space();
    if (at_ != before) return ok_status();
    const char c = peek();
    if (is_ascii_digit(c)) return number();
    if (is_name_char(c)) {
      std::size_t size = 1;
      while (is_name_char(peek(size))) ++size;
      push(TokenKind::kName, std::string(rest().substr(0, size)));
      advance(size);
      return ok_status();
    }
    if (c == '\'' || c == '"') return string(c);
    return operator_(open_brackets);
  }

  std::size_t digits(std::size_t from) const {
    std::size_t size = 0;
    while (is_ascii_digit(peek(from + size)) ||
           (size > 0 && peek(from + size) == '_' && is_ascii_digit(peek(from + size + 1)))) {
      ++size;
    }
    return size;
  }

  Status number() {
    std::size_t size = digits(0);
    bool is_float = false;
    const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';
    if (!after_dot) {
      if (peek(size) == '.' && is_ascii_digit(peek(size + 1))) {
        is_float = true;
        size += 1 + digits(size + 1);
      }
      if (peek(size) == 'e' || peek(size) == 'E') {
        const std::size_t sign = peek(size + 1) == '+' || peek(size + 1) == '-' ? 1 : 0;
        if (const std::size_t exponent = digits(size + 1 + sign); exponent > 0) {
          is_float = true;
          size += 1 + sign + exponent;
        }
      }
    }
    if (!is_float && peek() == '0') {
      const char base = static_cast<char>(peek(1) | 0x20);
      if (base == 'x' || base == 'o' || base == 'b') {
        return syntax_error(line_, "only decimal numbers are supported");
      }
      if (std::any_of(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                      source_.begin() + static_cast<std::ptrdiff_t>(at_ + size),
                      [](char d) { return d != '0' && d != '_'; })) {
        return syntax_error(line_, "a number does not start with 0");
      }
    }
    std::string spelling(rest().substr(0, size));
    std::erase(spelling, '_');
    push(is_float ? TokenKind::kFloat : TokenKind::kInteger, std::move(spelling));
    advance(size);
    return ok_status();
  }

  Status string(char quote) {
    std::size_t size = 1;
    while (peek(size) != quote) {
      if (at_ + size >= source_.size()) return syntax_error(line_, "this string does not end");
      size += peek(size) == '\\' ? 2 : 1;
    }
    Result<std::string> value = unescape_string(rest().substr(1, size - 1));
    if (!value.ok()) return syntax_error(line_, value.status().message());
    push(TokenKind::kString, *std::move(value));
    advance(size + 1);
    return ok_status();
  }

  Status operator_(std::string& open_brackets) {
    const auto* op = std::find_if(kOperators.begin(), kOperators.end(),
                                  [this](std::string_view o) { return rest().starts_with(o); });
    if (op->empty()) {
      std::size_t size = 0;
      utf8::decode_valid(source_.data() + at_, size);
      return syntax_error(line_, fmt::format("unexpected '{}'", rest().substr(0, size)));
    }
    const char c = (*op)[0];
    if (c == '(' || c == '[' || c == '{') {
      open_brackets += c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
      if (open_brackets.empty() || open_brackets.back() != c) {
        return syntax_error(line_, fmt::format("unexpected '{}'", c));
      }
      open_brackets.pop_back();
    }
    push(TokenKind::kOperator, std::string(*op));
    advance(op->size());
    return ok_status();
  }

  const std::string source_;
  std::size_t at_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

Status syntax_error(int line, std::string_view message) {
  return {StatusCode::kInvalidArgument, fmt::format("line {}: {}", line, message)};
}

Result<std::vector<Token>> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace latentd::jinja
