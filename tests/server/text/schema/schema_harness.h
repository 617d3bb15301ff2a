// Schemas held to texts: a vocabulary of bytes and some longer tokens, texts cut into its tokens.
#pragma once

#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "server/text/schema/json_constraint.h"

namespace latentd::testing {

// Tokens 0 .. 255 are the bytes, then what JSON is made of in pieces, then the end of text (without
// bytes).
class JsonVocabulary {
 public:
  JsonVocabulary();
  const std::shared_ptr<const VocabularyTrie>& trie() const { return trie_; }
  TokenId eos() const { return static_cast<TokenId>(tokens_.size() - 1); }
  std::size_t size() const { return tokens_.size(); }
  std::size_t num_words() const { return (tokens_.size() + 31) / 32; }
  std::string_view bytes(TokenId token) const { return tokens_[static_cast<std::size_t>(token)]; }
  // `text` in tokens, each one of those that fit, drawn.
  std::vector<TokenId> cut(std::string_view text, std::mt19937& random) const;

 private:
  std::vector<std::string_view> tokens_;
  std::shared_ptr<const VocabularyTrie> trie_;
};

const JsonVocabulary& vocabulary();

std::unique_ptr<TokenConstraint> constrain(std::string_view schema);

// Accepts every token of `text`, each allowed by the mask before it, and then the end.
bool admits(std::string_view schema, std::string_view text, unsigned seed = 1);

// The message of why the schema is refused; empty when it is not.
std::string refusal(std::string_view schema);

std::vector<TokenId> allowed(const TokenConstraint& constraint, std::size_t num_words);

}  // namespace latentd::testing
