#include "tests/server/text/schema/schema_harness.h"

#include <algorithm>
#include <stdexcept>

namespace latentd::testing {

namespace {

constexpr std::string_view kPieces[] = {"{\"",      "\":",      "\": ",
                                        "\",",      "\", \"",   "\",\"",
                                        "\"}",      "}}",       "},{",
                                        "[{",       "]}",       "[[",
                                        "]]",       "],[",      "{}",
                                        "[]",       "},",       "\":{\"",
                                        "\":[",     "\"]",      ", ",
                                        ": ",       "{\n",      "\n}",
                                        ":\"",      "\\u",      "\\\"",
                                        "\\ud8",    "ab",       "abc",
                                        "name",     "\"name",   "\"a\"",
                                        "\"a\":",   "kind",     "true",
                                        "false",    "null",     "tru",
                                        "12",       "123",      "-1",
                                        "0.",       ".5",       "1e",
                                        "10",       "00",       "99",
                                        "2024",     "-0",       "é",
                                        "日本",     "\xE6\x97", "\xA5",
                                        "😀",        "\xF0\x9F", "\x98\x80",
                                        "\"\"",     "a",        "b",
                                        "x\":1",    "1}",       "1,",
                                        "1,\"",     "null}",    "aaaaaaaa",
                                        "[[[[[[[[", "]]]]]]]]", "{\"a\":{\"a\":"};

}  // namespace

JsonVocabulary::JsonVocabulary() {
  static const std::string kBytes = [] {
    std::string all;
    for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
    return all;
  }();
  for (std::size_t byte = 0; byte < 256; ++byte) {
    tokens_.push_back(std::string_view(kBytes).substr(byte, 1));
  }
  tokens_.insert(tokens_.end(), std::begin(kPieces), std::end(kPieces));
  tokens_.emplace_back();
  trie_ = VocabularyTrie::build(tokens_);
}

std::vector<TokenId> JsonVocabulary::cut(std::string_view text, std::mt19937& random) const {
  std::vector<TokenId> out;
  while (!text.empty()) {
    std::vector<TokenId> fitting;
    for (TokenId token = 0; token < eos(); ++token) {
      if (text.starts_with(bytes(token))) fitting.push_back(token);
    }
    out.push_back(fitting[random() % fitting.size()]);
    text.remove_prefix(bytes(out.back()).size());
  }
  return out;
}

const JsonVocabulary& vocabulary() {
  static const JsonVocabulary kVocabulary;
  return kVocabulary;
}

std::unique_ptr<TokenConstraint> constrain(std::string_view schema) {
  return make_json_constraint(SchemaProgram::compile(schema).value(), vocabulary().trie(),
                              {vocabulary().eos()});
}

std::vector<TokenId> allowed(const TokenConstraint& constraint, std::size_t num_words) {
  std::vector<std::uint32_t> words(num_words, 0xFFFFFFFF);
  constraint.fill_mask(words);
  std::vector<TokenId> out;
  for (std::size_t bit = 0; bit < num_words * 32; ++bit) {
    if ((words[bit / 32] >> (bit % 32) & 1) != 0) out.push_back(static_cast<TokenId>(bit));
  }
  return out;
}

bool admits(std::string_view schema, std::string_view text, unsigned seed) {
  const std::unique_ptr<TokenConstraint> constraint = constrain(schema);
  std::mt19937 random(seed);
  std::vector<TokenId> tokens = vocabulary().cut(text, random);
  tokens.push_back(vocabulary().eos());
  for (const TokenId token : tokens) {
    const std::vector<TokenId> may = allowed(*constraint, vocabulary().num_words());
    const bool masked = !std::binary_search(may.begin(), may.end(), token);
    const bool accepted = constraint->accept(token);
    if (masked == accepted) throw std::logic_error("the mask and accept disagree");
    if (!accepted) return false;
  }
  return constraint->complete();
}

std::string refusal(std::string_view schema) {
  const auto program = SchemaProgram::compile(schema);
  return program.ok() ? std::string() : program.status().message();
}

}  // namespace latentd::testing
