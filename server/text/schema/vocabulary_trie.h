// VocabularyTrie: the bytes of all tokens as a trie in preorder, and what is true of them inside of
// any JSON string, whatever the schema.
//
// Special tokens and ids without bytes are not in it: a constraint never allows them.
// Contract: immutable after build; shared by the constraints of all requests, on any threads.
// Building takes tens of milliseconds for 128k tokens: off the engine thread, once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "server/text/schema/json_string.h"
#include "server/text/tokenizer.h"

namespace latentd {

class VocabularyTrie final {
 public:
  static std::shared_ptr<const VocabularyTrie> build(const Tokenizer& tokenizer);
  // The bytes of token i are tokens[i]; an empty one is left out.
  static std::shared_ptr<const VocabularyTrie> build(std::span<const std::string_view> tokens);

  // Node 0 is the root; the nodes below n are n + 1 .. end(n) - 1, parents first.
  std::uint32_t num_nodes() const { return static_cast<std::uint32_t>(nodes_.size()); }
  std::uint8_t byte(std::uint32_t node) const { return bytes_[node]; }
  std::uint32_t end(std::uint32_t node) const { return nodes_[node].end; }
  std::uint32_t depth(std::uint32_t node) const { return nodes_[node].depth; }
  // The tokens that end at `node`.
  std::span<const TokenId> tokens(std::uint32_t node) const {
    const std::uint32_t first = nodes_[node].first_token;
    const std::size_t last =
        node + 1 < nodes_.size() ? nodes_[node + 1].first_token : tokens_.size();
    return std::span(tokens_).subspan(first, last - first);
  }

  // The node below `node` by `byte`, or 0 (the root is below none).
  std::uint32_t child(std::uint32_t node, std::uint8_t byte) const;

  // Empty for what is not in the trie.
  std::string_view token_bytes(TokenId token) const;

  // Where tokens lead that begin between two characters of a string.
  struct Strings {
    struct Close {
      std::uint32_t node;        // whose byte is the closing quote
      std::uint32_t parent;      // of `node`
      std::uint32_t characters;  // before it
    };
    std::vector<std::uint32_t> words;       // bit of each token that stays inside
    std::vector<TokenId> inside;            // the same, fewest characters first
    std::vector<std::uint32_t> characters;  // parallel; begun ones included
    std::vector<Close> closes;
  };
  const Strings& strings(StringSpelling spelling) const {
    return strings_[static_cast<std::size_t>(spelling)];
  }

 private:
  struct Node {
    std::uint32_t end;
    std::uint32_t first_token;
    std::uint32_t depth;
  };

  VocabularyTrie() = default;
  void add_nodes(std::span<const std::string_view> tokens);
  Strings read_strings(StringSpelling spelling) const;

  std::vector<Node> nodes_;
  std::vector<std::uint8_t> bytes_;
  std::vector<TokenId> tokens_;
  std::string text_;  // of all tokens, by id
  std::vector<std::uint32_t> text_end_;
  Strings strings_[2];
};

}  // namespace latentd
