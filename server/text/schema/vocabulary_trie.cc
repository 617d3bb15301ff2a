#include "server/text/schema/vocabulary_trie.h"

#include <algorithm>

namespace latentd {

std::shared_ptr<const VocabularyTrie> VocabularyTrie::build(const Tokenizer& tokenizer) {
  std::vector<std::string_view> tokens(static_cast<std::size_t>(tokenizer.vocab_size()));
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    if (!tokenizer.is_special(id)) tokens[static_cast<std::size_t>(id)] = tokenizer.token_bytes(id);
  }
  return build(tokens);
}

std::shared_ptr<const VocabularyTrie> VocabularyTrie::build(
    std::span<const std::string_view> tokens) {
  const std::shared_ptr<VocabularyTrie> trie(new VocabularyTrie);
  for (const std::string_view token : tokens) {
    trie->text_ += token;
    trie->text_end_.push_back(static_cast<std::uint32_t>(trie->text_.size()));
  }
  trie->add_nodes(tokens);
  for (const StringSpelling spelling : {StringSpelling::kFree, StringSpelling::kCanonical}) {
    trie->strings_[static_cast<std::size_t>(spelling)] = trie->read_strings(spelling);
  }
  return trie;
}

void VocabularyTrie::add_nodes(std::span<const std::string_view> tokens) {
  // Sorted by the first eight bytes, which settles nearly all, then by the whole.
  struct Entry {
    std::uint64_t beginning;
    TokenId id;
  };
  std::vector<Entry> order;
  order.reserve(tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].empty()) continue;
    std::uint64_t beginning = 0;
    for (std::size_t k = 0; k < 8; ++k) {
      const auto byte = k < tokens[i].size() ? static_cast<std::uint8_t>(tokens[i][k]) : 0;
      beginning = beginning << 8 | static_cast<std::uint64_t>(byte);
    }
    order.push_back({beginning, static_cast<TokenId>(i)});
  }
  std::sort(order.begin(), order.end(), [&](const Entry& a, const Entry& b) {
    if (a.beginning != b.beginning) return a.beginning < b.beginning;
    const std::string_view x = tokens[static_cast<std::size_t>(a.id)];
    const std::string_view y = tokens[static_cast<std::size_t>(b.id)];
    return x != y ? x < y : a.id < b.id;
  });
  nodes_.push_back({0, 0, 0});
  bytes_.push_back(0);
  std::vector<std::uint32_t> path{0};
  std::string_view before;
  const auto leave = [&](std::size_t depth) {
    while (path.size() > depth + 1) {
      nodes_[path.back()].end = num_nodes();
      path.pop_back();
    }
  };
  for (const auto& [beginning, id] : order) {
    const std::string_view token = tokens[static_cast<std::size_t>(id)];
    const auto differ = std::mismatch(token.begin(), token.end(), before.begin(), before.end());
    const auto shared = static_cast<std::size_t>(differ.first - token.begin());
    leave(shared);
    for (std::size_t i = shared; i < token.size(); ++i) {
      path.push_back(num_nodes());
      nodes_.push_back(
          {0, static_cast<std::uint32_t>(tokens_.size()), static_cast<std::uint32_t>(i + 1)});
      bytes_.push_back(static_cast<std::uint8_t>(token[i]));
    }
    tokens_.push_back(id);
    before = token;
  }
  leave(0);
  nodes_[0].end = num_nodes();
}

VocabularyTrie::Strings VocabularyTrie::read_strings(StringSpelling spelling) const {
  struct Level {
    StringState state = StringState::kBody;
    std::uint32_t characters = 0;
    std::uint32_t node = 0;
  };
  const StringTable& table = string_table(spelling);
  Strings out;
  out.words.assign((text_end_.size() + 31) / 32, 0);
  std::vector<std::vector<TokenId>> inside;  // by characters
  std::vector<Level> levels{{}};
  for (std::uint32_t node = 1; node < num_nodes();) {
    levels.resize(depth(node));
    const Level& above = levels.back();
    const std::uint8_t next = table[static_cast<std::size_t>(above.state)][byte(node)];
    if (next >= kStringClose) {
      if (next == kStringClose) out.closes.push_back({node, above.node, above.characters});
      node = end(node);
      continue;
    }
    const Level level{static_cast<StringState>(next),
                      above.characters + (above.state == StringState::kBody ? 1 : 0), node};
    if (inside.size() <= level.characters) inside.resize(level.characters + 1);
    for (const TokenId token : tokens(node)) {
      inside[level.characters].push_back(token);
      out.words[static_cast<std::size_t>(token) / 32] |= 1U << (token % 32);
    }
    levels.push_back(level);
    ++node;
  }
  for (std::uint32_t characters = 0; characters < inside.size(); ++characters) {
    out.inside.insert(out.inside.end(), inside[characters].begin(), inside[characters].end());
    out.characters.resize(out.inside.size(), characters);
  }
  return out;
}

std::uint32_t VocabularyTrie::child(std::uint32_t node, std::uint8_t byte) const {
  for (std::uint32_t at = node + 1; at < end(node); at = end(at)) {
    if (bytes_[at] == byte) return at;
  }
  return 0;
}

std::string_view VocabularyTrie::token_bytes(TokenId token) const {
  const auto index = static_cast<std::size_t>(token);
  if (token < 0 || index >= text_end_.size()) return {};
  const std::uint32_t begin = index == 0 ? 0 : text_end_[index - 1];
  return std::string_view(text_).substr(begin, text_end_[index] - begin);
}

}  // namespace latentd
