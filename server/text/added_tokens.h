// AddedTokens: finds the added tokens of a tokenizer.json in text.
//
// Leftmost, and of those that begin at one place the longest; then the flags: single_word (not next
// to a word character, else the found text is plain), lstrip and rstrip (white space beside it
// belongs to it). The white space and word characters are those of the `tokenizers` package.
//
// Contract: immutable once built; thread-safe. Time: text x the longest token at worst.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"

namespace latentd {

struct AddedToken {
  std::string content;
  TokenId id = 0;
  bool single_word = false;
  bool lstrip = false;
  bool rstrip = false;
  bool normalized = false;
  bool special = false;
};

class AddedTokens final {
 public:
  struct Part {
    TokenId id;  // or -1: plain text
    std::string_view text;
  };

  AddedTokens() = default;
  // REQUIRES: contents are not empty and differ.
  explicit AddedTokens(std::vector<AddedToken> tokens);

  // Appends the parts of `text` in order. REQUIRES: valid UTF-8.
  void split(std::string_view text, std::vector<Part>& parts) const;

 private:
  const AddedToken* longest_at(std::string_view text) const;

  std::vector<AddedToken> tokens_;  // by content
  std::array<bool, 256> first_byte_{};
};

}  // namespace latentd
