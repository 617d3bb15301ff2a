#include "server/text/utf8.h"

#include <gtest/gtest.h>

namespace latentd {
namespace {

constexpr const char* kBad = "\xEF\xBF\xBD";

std::string repeated(const std::string& text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

TEST(Utf8, EveryScalarValueIsReadBackAsItself) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string encoded;
    utf8::append(c, encoded);
    const utf8::Decoded decoded = utf8::decode(encoded);
    ASSERT_EQ(decoded.outcome, utf8::Outcome::kCharacter);
    ASSERT_EQ(decoded.size, encoded.size());
    ASSERT_EQ(decoded.code_point, c);
    for (std::size_t size = 1; size < encoded.size(); ++size) {
      const utf8::Decoded start = utf8::decode(std::string_view(encoded).substr(0, size));
      ASSERT_EQ(start.outcome, utf8::Outcome::kIncomplete);
      ASSERT_EQ(start.size, size);
    }
  }
}

// The examples of The Unicode Standard, tables 3-8 to 3-11.
TEST(Utf8, EveryMaximalInvalidPartIsReplacedOnce) {
  EXPECT_EQ(utf8::replace_invalid("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), repeated(kBad, 8) + "A");
  EXPECT_EQ(utf8::replace_invalid("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), repeated(kBad, 8) + "A");
  EXPECT_EQ(utf8::replace_invalid("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"),
            repeated(kBad, 5) + "A" + repeated(kBad, 2) + "B");
  EXPECT_EQ(utf8::replace_invalid("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), repeated(kBad, 4) + "A");
}

TEST(Utf8, AnIncompleteEndIsLeftForLater) {
  std::string out;
  EXPECT_EQ(utf8::append_complete("a\xE6\xBC\xA2\xF0\x9F\x91", out), 3U);
  EXPECT_EQ(out, "a\xE6\xBC\xA2");
  EXPECT_EQ(utf8::replace_invalid("\xF0\x9F\x91"), kBad);
}

TEST(Utf8, ValidatesWholeTexts) {
  EXPECT_TRUE(utf8::valid(""));
  EXPECT_TRUE(utf8::valid("na\xC3\xAFve \xF0\x9F\x91\x8D"));
  EXPECT_FALSE(utf8::valid("a\xC3"));
  EXPECT_FALSE(utf8::valid("\xC0\x80"));
}

}  // namespace
}  // namespace latentd
