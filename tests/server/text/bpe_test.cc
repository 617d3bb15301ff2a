#include "server/text/bpe.h"

#include <gtest/gtest.h>

#include "server/text/byte_alphabet.h"

namespace latentd {
namespace {

// A vocabulary of all bytes, and merges given as pairs of spellings.
class BpeTest : public ::testing::Test {
 protected:
  BpeTest() {
    for (int byte = 0; byte < 256; ++byte) {
      const char as_char = static_cast<char>(byte);
      add(spelling_of_bytes({&as_char, 1}));
    }
  }

  TokenId add(std::string_view spelling) {
    const auto id = static_cast<TokenId>(vocabulary_.size());
    EXPECT_TRUE(vocabulary_.add(spelling, id).ok());
    return id;
  }

  Bpe make(const std::vector<std::pair<std::string, std::string>>& merges,
           bool ignore_merges = false) {
    for (const auto& [left, right] : merges) {
      if (!vocabulary_.find(left + right)) add(left + right);
    }
    scratch_ = {};
    Bpe bpe(vocabulary_, ignore_merges);
    for (const auto& [left, right] : merges) {
      bpe.add_merge(*vocabulary_.find(left), *vocabulary_.find(right),
                    *vocabulary_.find(left + right));
    }
    return bpe;
  }

  std::string spell(const Bpe& bpe, std::string_view piece) {
    std::vector<TokenId> ids;
    bpe.encode(piece, scratch_, ids);
    std::string out;
    for (const TokenId id : ids) {
      if (!out.empty()) out += ' ';
      out += vocabulary_.spelling(id);
    }
    return out;
  }

  Vocabulary vocabulary_;
  Bpe::Scratch scratch_;
};

TEST_F(BpeTest, MergesTheLowestRankFirst) {
  const Bpe bpe = make({{"b", "c"}, {"a", "b"}, {"a", "bc"}});
  EXPECT_EQ(spell(bpe, "abc"), "abc");
  EXPECT_EQ(spell(bpe, "ab"), "ab");
  EXPECT_EQ(spell(bpe, "abab"), "ab ab");
}

TEST_F(BpeTest, OfEqualRanksTheLeftmostMergesFirst) {
  const Bpe bpe = make({{"a", "a"}});
  EXPECT_EQ(spell(bpe, "aaa"), "aa a");
  EXPECT_EQ(spell(bpe, "aaaaa"), "aa aa a");
}

TEST_F(BpeTest, APieceWithoutMergesIsItsBytes) {
  const Bpe bpe = make({});
  EXPECT_EQ(spell(bpe, ""), "");
  EXPECT_EQ(spell(bpe, " \xC3\xA9"), "\xC4\xA0 \xC3\x83 \xC2\xA9");
}

// ab c and a bc both make abc. The entry of (a, bc) waits with rank 3; by the time it is taken the
// pair at its place may be another that makes abc too, and then it merges, as in the package.
TEST_F(BpeTest, TwoMergesToOneTokenShareTheirPlaceInTheQueue) {
  const Bpe bpe = make({{"b", "c"}, {"a", "b"}, {"ab", "c"}, {"a", "bc"}});
  EXPECT_EQ(spell(bpe, "abcabc"), "abc abc");
}

TEST_F(BpeTest, AWholePieceIsATokenWhenMergesAreIgnored) {
  add("hello");
  EXPECT_EQ(spell(make({}), "hello"), "h e l l o");
  EXPECT_EQ(spell(make({}, true), "hello"), "hello");
  EXPECT_EQ(spell(make({}, true), "hellox"), "h e l l o x");
}

TEST_F(BpeTest, RemembersPiecesWithoutMixingThemUp) {
  const Bpe bpe = make({{"a", "b"}, {"ab", "ab"}});
  // More different pieces than there are places, twice.
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 40000; ++i) {
      const std::string number = std::to_string(i);
      std::string expected = "abab";
      for (const char c : number) expected += std::string(" ") + c;
      ASSERT_EQ(spell(bpe, "abab" + number), expected);
    }
  }
}

TEST_F(BpeTest, ALongPieceTakesNoSquareOfItsLength) {
  const Bpe bpe = make({{"a", "a"}, {"aa", "aa"}, {"aaaa", "aaaa"}});
  std::vector<TokenId> ids;
  bpe.encode(std::string(1 << 18, 'a'), scratch_, ids);
  EXPECT_EQ(ids, std::vector<TokenId>((1 << 18) / 8, *vocabulary_.find("aaaaaaaa")));
}

TEST_F(BpeTest, NamesAByteThatIsNoToken) {
  EXPECT_EQ(make({}).missing_byte(), -1);
  Vocabulary empty;
  ASSERT_TRUE(empty.add("a", 0).ok());
  const Bpe bpe(empty, false);
  EXPECT_EQ(bpe.missing_byte(), 0);
  std::vector<TokenId> ids;
  Bpe::Scratch scratch;
  bpe.encode("xax", scratch, ids);
  EXPECT_EQ(ids, (std::vector<TokenId>{0}));
}

}  // namespace
}  // namespace latentd
