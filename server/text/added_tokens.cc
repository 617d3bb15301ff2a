#include "server/text/added_tokens.h"

#include <algorithm>
#include <utility>

#include "server/text/char_set.h"
#include "server/text/utf8.h"

namespace latentd {

namespace {

bool is_white_space(char32_t c) {
  static const CharClass white_space(CharSet::white_space());
  return white_space.contains(c);
}

// \w of Unicode's UTS 18: letters, marks, decimal digits, letter numbers, connectors, the enclosed
// letters (which are symbols) and the two joiners.
bool is_word(char32_t c) {
  static const CharClass word([] {
    CharSet set;
    for (const char* name : {"L", "M", "Nd", "Nl", "Pc"}) {
      set.add(CharSet::categories(*category_mask(name)));
    }
    for (const auto& [first, last] : {std::pair<char32_t, char32_t>{0x24B6, 0x24E9},
                                      {0x1F130, 0x1F149},
                                      {0x1F150, 0x1F169},
                                      {0x1F170, 0x1F189},
                                      {0x200C, 0x200D}}) {
      set.add(CharSet::of(first, last));
    }
    return set;
  }());
  return word.contains(c);
}

char32_t first_character(std::string_view text, std::size_t& size) {
  return utf8::decode_valid(text.data(), size);
}

char32_t last_character(std::string_view text, std::size_t& size) {
  std::size_t at = text.size() - 1;
  while ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return utf8::decode_valid(text.data() + at, size);
}

bool between_words(std::string_view before, std::string_view after) {
  std::size_t size = 0;
  return (before.empty() || !is_word(last_character(before, size))) &&
         (after.empty() || !is_word(first_character(after, size)));
}

std::size_t without_trailing_space(std::string_view text) {
  std::size_t size = 0;
  while (!text.empty() && is_white_space(last_character(text, size))) text.remove_suffix(size);
  return text.size();
}

std::size_t leading_space(std::string_view text) {
  const std::size_t all = text.size();
  std::size_t size = 0;
  while (!text.empty() && is_white_space(first_character(text, size))) text.remove_prefix(size);
  return all - text.size();
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::sort(tokens_.begin(), tokens_.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.content < b.content; });
  for (const AddedToken& token : tokens_) {
    first_byte_[static_cast<unsigned char>(token.content[0])] = true;
  }
}

// Narrows the sorted contents byte by byte to those that begin as `text` does.
const AddedToken* AddedTokens::longest_at(std::string_view text) const {
  const AddedToken* longest = nullptr;
  auto low = tokens_.begin();
  auto high = tokens_.end();
  for (std::size_t depth = 0; depth < text.size() && low != high; ++depth) {
    const auto byte = static_cast<unsigned char>(text[depth]);
    const auto at_depth = [depth](const AddedToken& token) {
      return static_cast<unsigned char>(token.content[depth]);
    };
    low = std::partition_point(low, high, [&](const AddedToken& t) { return at_depth(t) < byte; });
    high =
        std::partition_point(low, high, [&](const AddedToken& t) { return at_depth(t) <= byte; });
    if (low != high && low->content.size() == depth + 1) longest = &*low++;
  }
  return longest;
}

void AddedTokens::split(std::string_view text, std::vector<Part>& parts) const {
  std::size_t plain = 0;  // where the part that is not handed out yet begins
  std::size_t at = 0;
  while (at < text.size()) {
    if (!first_byte_[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    const AddedToken* token = longest_at(text.substr(at));
    if (token == nullptr) {
      ++at;
      continue;
    }
    std::size_t begin = at;
    std::size_t end = at + token->content.size();
    at = end;
    if (token->single_word && !between_words(text.substr(0, begin), text.substr(end))) continue;
    if (token->lstrip) {
      // The token before may have taken this white space already.
      begin = std::max(without_trailing_space(text.substr(0, begin)), plain);
    }
    if (token->rstrip) end += leading_space(text.substr(end));
    if (begin > plain) parts.push_back({-1, text.substr(plain, begin - plain)});
    parts.push_back({token->id, text.substr(begin, end - begin)});
    plain = end;
  }
  if (plain < text.size()) parts.push_back({-1, text.substr(plain)});
}

}  // namespace latentd
