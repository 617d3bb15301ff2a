// A tokenizer.json as data: the vocabulary and merges flat, the rest as a tree.
//
// The two big tables never become a tree, because a tree of 128,000 tokens costs most of the time
// between the start of the process and its first token.
//
// Contract: pure function. Limits: kMaxTokenizerBytes, depth 64, no key twice in an object (in the
// vocabulary: found by Vocabulary::add).
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace latentd {

inline constexpr std::size_t kMaxTokenizerBytes = std::size_t{64} << 20;

struct TokenizerJson {
  struct Token {
    std::uint32_t begin;  // of its spelling, in `text`
    std::uint32_t size;
    std::int64_t id;
  };
  struct Merge {
    std::uint32_t begin;  // of the left token; the right one follows at once
    std::uint32_t left_size;
    std::uint32_t right_size;
  };

  nlohmann::json tree;  // model.vocab and model.merges are null in it, or absent
  std::string text;
  std::vector<Token> vocabulary;
  std::vector<Merge> merges;

  std::string_view spelling(const Token& token) const {
    return std::string_view(text).substr(token.begin, token.size);
  }
  std::string_view left(const Merge& merge) const {
    return std::string_view(text).substr(merge.begin, merge.left_size);
  }
  std::string_view right(const Merge& merge) const {
    return std::string_view(text).substr(merge.begin + merge.left_size, merge.right_size);
  }
  std::string_view both(const Merge& merge) const {
    return std::string_view(text).substr(merge.begin, merge.left_size + merge.right_size);
  }
};

// kInvalidArgument: not JSON, over a limit, or a vocabulary or merges of another shape.
Result<TokenizerJson> read_tokenizer_json(std::string_view json);

}  // namespace latentd
