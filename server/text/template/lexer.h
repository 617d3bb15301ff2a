// Tokens of a template, with whitespace already treated as the reference environment does
// (trim_blocks and lstrip_blocks on, keep_trailing_newline off, `-` and `+` marks, raw blocks,
// comments dropped).
//
// Contract: pure. Errors are kInvalidArgument, "line N: what".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace latentd::jinja {

enum class TokenKind : std::uint8_t {
  kText,
  kPrintBegin,  // {{
  kPrintEnd,
  kTagBegin,  // {%
  kTagEnd,
  kName,
  kString,   // `text` is its value
  kInteger,  // `text` is its spelling without underscores
  kFloat,
  kOperator,  // `text` is its spelling
  kEnd,
};

struct Token {
  TokenKind kind;
  int line;
  std::string text;

  bool is_name(std::string_view name) const { return kind == TokenKind::kName && text == name; }
  bool is_op(std::string_view op) const { return kind == TokenKind::kOperator && text == op; }
};

// Ends with one kEnd. REQUIRES: `source` is valid UTF-8.
Result<std::vector<Token>> tokenize(std::string_view source);

// For parser and lexer: "line N: message".
Status syntax_error(int line, std::string_view message);

}  // namespace latentd::jinja
