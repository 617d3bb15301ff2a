#include "server/text/detokenizer.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "server/text/byte_alphabet.h"
#include "server/text/utf8.h"
#include "tests/server/text/tiny_tokenizer.h"

namespace latentd {
namespace {

using testing::added_token;
using testing::ids_of;
using testing::TinyTokenizer;

// Pushes one byte a token and checks that every output is whole characters.
std::string stream(const Tokenizer& tokenizer, std::string_view bytes) {
  Detokenizer detokenizer(tokenizer, false);
  std::string out;
  for (const TokenId id : ids_of(bytes)) {
    const std::string text = detokenizer.push(id);
    EXPECT_TRUE(utf8::valid(text));
    out += text;
  }
  return out + detokenizer.finish();
}

TEST(Detokenizer, EmitsACharacterWithItsLastByte) {
  const auto tokenizer = TinyTokenizer{}.build();
  for (const std::string character : {"a", "\xC3\xA9", "\xE6\xBC\xA2", "\xF0\x9F\x91\x8D"}) {
    Detokenizer detokenizer(*tokenizer, false);
    const std::vector<TokenId> ids = ids_of(character);
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) EXPECT_EQ(detokenizer.push(ids[i]), "");
    EXPECT_EQ(detokenizer.push(ids.back()), character);
    EXPECT_EQ(detokenizer.finish(), "");
  }
}

TEST(Detokenizer, EmitsTheSameForEverySplitOfATextIntoTokens) {
  // One token for every part of the text, so that each split is a list of tokens.
  const std::string text = "x\xC3\xA9\xE6\xBC\xA2\xF0\x9F\x91\x8D!";
  TinyTokenizer tiny;
  for (std::size_t begin = 0; begin < text.size(); ++begin) {
    for (std::size_t size = 2; begin + size <= text.size(); ++size) {
      const std::string spelling = spelling_of_bytes(std::string_view(text).substr(begin, size));
      tiny.more_vocabulary.push_back(spelling);
    }
  }
  const auto tokenizer = tiny.build();
  std::map<std::string, TokenId> by_bytes;
  for (TokenId id = 0; id < tokenizer->vocab_size(); ++id) {
    by_bytes[std::string(tokenizer->token_bytes(id))] = id;
  }
  for (unsigned cuts = 0; cuts < 1U << (text.size() - 1); ++cuts) {
    Detokenizer detokenizer(*tokenizer, false);
    std::string out;
    std::string part;
    for (std::size_t i = 0; i < text.size(); ++i) {
      part += text[i];
      if (i + 1 < text.size() && ((cuts >> i) & 1) == 0) continue;
      ASSERT_TRUE(by_bytes.contains(part));
      const std::string piece = detokenizer.push(by_bytes[part]);
      ASSERT_TRUE(utf8::valid(piece));
      out += piece;
      part.clear();
    }
    ASSERT_EQ(out + detokenizer.finish(), text);
  }
}

TEST(Detokenizer, ReplacesWhatCanNoLongerBecomeACharacter) {
  const auto tokenizer = TinyTokenizer{}.build();
  Detokenizer detokenizer(*tokenizer, false);
  EXPECT_EQ(detokenizer.push(0xE6), "");
  EXPECT_EQ(detokenizer.push('a'),
            "\xEF\xBF\xBD"
            "a");
  EXPECT_EQ(detokenizer.push(0xFF), "\xEF\xBF\xBD");
  EXPECT_EQ(detokenizer.push(0xF0), "");
  EXPECT_EQ(detokenizer.push(0x9F), "");
  EXPECT_EQ(detokenizer.finish(), "\xEF\xBF\xBD");
  EXPECT_EQ(detokenizer.finish(), "");
}

TEST(Detokenizer, EqualsDecodeOnRandomBytes) {
  const auto tokenizer = TinyTokenizer{}.build();
  constexpr unsigned kSeed = 7;
  RecordProperty("seed", static_cast<int>(kSeed));
  std::mt19937 random(kSeed);
  const std::string alphabet("a\xC3\xA9\xE6\xBC\xA2\xF0\x9F\x91\x8D\xED\xA0\xFF", 13);
  for (int round = 0; round < 20000; ++round) {
    std::string bytes;
    for (auto i = random() % 12; i > 0; --i) bytes += alphabet[random() % alphabet.size()];
    ASSERT_EQ(stream(*tokenizer, bytes), tokenizer->decode(ids_of(bytes), false));
    ASSERT_EQ(stream(*tokenizer, bytes), utf8::replace_invalid(bytes));
  }
}

TEST(Detokenizer, LeavesSpecialTokensOutOnlyWhenAsked) {
  TinyTokenizer tiny;
  tiny.added = {added_token(256, "<end>", R"(, "special": true)"), added_token(257, "<plain>")};
  const auto tokenizer = tiny.build();
  Detokenizer with(*tokenizer, false);
  EXPECT_EQ(with.push(256) + with.push(257), "<end><plain>");
  Detokenizer without(*tokenizer, true);
  EXPECT_EQ(without.push(256) + without.push(257), "<plain>");
}

TEST(Detokenizer, IdsThatDoNotExistAddNothing) {
  const auto tokenizer = TinyTokenizer{}.build();
  Detokenizer detokenizer(*tokenizer, true);
  EXPECT_EQ(detokenizer.push(-1) + detokenizer.push(1 << 30), "");
}

}  // namespace
}  // namespace latentd
