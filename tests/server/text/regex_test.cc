#include "server/text/regex.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/text/pre_tokenizer.h"

namespace latentd {
namespace {

std::vector<std::string> matches(std::string_view pattern, const std::string& text) {
  const auto regex = Regex::compile(pattern);
  EXPECT_TRUE(regex.ok()) << pattern << ": " << regex.status().to_string();
  if (!regex.ok()) return {};
  Regex::Scratch scratch;
  std::vector<Regex::Match> found;
  regex->find_all(text, scratch, found);
  std::vector<std::string> out;
  for (const auto& match : found) out.push_back(text.substr(match.begin, match.end - match.begin));
  return out;
}

using Strings = std::vector<std::string>;

TEST(Regex, TheFirstAlternativeThatMatchesWins) {
  EXPECT_EQ(matches("ab|abc|a", "abc a"), (Strings{"ab", "a"}));
  EXPECT_EQ(matches("(?:ab|a)c", "ac abc"), (Strings{"ac", "abc"}));
  EXPECT_EQ(matches("(a|ab)(c|bcd)e?", "abcde"), (Strings{"abcde"}));
}

TEST(Regex, RepetitionsAreGreedyLazyOrPossessive) {
  EXPECT_EQ(matches("a+", "aaab"), (Strings{"aaa"}));
  EXPECT_EQ(matches("a+?", "aaab"), (Strings{"a", "a", "a"}));
  EXPECT_EQ(matches("a+?b", "aaab"), (Strings{"aaab"}));
  EXPECT_EQ(matches("[ab]*b", "aabab"), (Strings{"aabab"}));
  EXPECT_EQ(matches("[ab]++b|x", "aabab x"), (Strings{"x"}));
  EXPECT_EQ(matches("a?+ab|b", "ab aab"), (Strings{"b", "aab"}));
  EXPECT_EQ(matches("a??b", "ab"), (Strings{"ab"}));
  EXPECT_EQ(matches("(?:ab)+", "ababa"), (Strings{"abab"}));
  EXPECT_EQ(matches("(?:ab)+?", "ababa"), (Strings{"ab", "ab"}));
  EXPECT_EQ(matches("(?:ab|c)*d", "abcabd d"), (Strings{"abcabd", "d"}));
}

TEST(Regex, CountsRepetitions) {
  EXPECT_EQ(matches(R"(\p{N}{1,3})", "12345 6"), (Strings{"123", "45", "6"}));
  EXPECT_EQ(matches("a{2}", "aaaaa"), (Strings{"aa", "aa"}));
  EXPECT_EQ(matches("a{2,}", "a aaaaa"), (Strings{"aaaaa"}));
  EXPECT_EQ(matches("a{,2}b", "aaab"), (Strings{"aab"}));
  EXPECT_EQ(matches("(?:ab){2,3}", "ababababab"), (Strings{"ababab", "abab"}));
}

TEST(Regex, ReadsClasses) {
  EXPECT_EQ(matches("[a-c]+", "xabcd"), (Strings{"abc"}));
  EXPECT_EQ(matches("[^a-c ]+", "xabcd \xC3\xA9"), (Strings{"x", "d", "\xC3\xA9"}));
  EXPECT_EQ(matches(R"([\-a\]+]+)", "a-]+b"), (Strings{"a-]+"}));
  EXPECT_EQ(matches("[+-]", "+-"), (Strings{"+", "-"}));
  EXPECT_EQ(matches(R"([\p{Lu}\d]+)",
                    "AB\xC3\x89"
                    "9z"),
            (Strings{"AB\xC3\x89"
                     "9"}));
  EXPECT_EQ(matches(R"(\P{L}+)", "ab1,c"), (Strings{"1,"}));
  EXPECT_EQ(matches(R"(\p{^L}+)", "ab1,c"), (Strings{"1,"}));
  EXPECT_EQ(matches("[\xE4\xB8\x80-\xE9\xBE\xA5]+",
                    "a\xE4\xB8\xAD\xE6\x96\x87"
                    "b"),
            (Strings{"\xE4\xB8\xAD\xE6\x96\x87"}));
  EXPECT_EQ(matches(R"(\u0061\x62\x{1F44D})", "ab\xF0\x9F\x91\x8D"),
            (Strings{"ab\xF0\x9F\x91\x8D"}));
}

TEST(Regex, WhiteSpaceIsUnicodes) {
  EXPECT_EQ(matches(R"(\s+)", "a \t\xC2\x85\xC2\xA0\xE3\x80\x80z\xE2\x80\x8B"),
            (Strings{" \t\xC2\x85\xC2\xA0\xE3\x80\x80"}));
}

TEST(Regex, IgnoresCaseWhereAsked) {
  EXPECT_EQ(matches("(?i:'ll|'s)x", "'Llx 'Sx 'sX"), (Strings{"'Llx", "'Sx"}));
  EXPECT_EQ(matches("(?i:[^k])",
                    "kK\xE2\x84\xAA"
                    "x"),
            (Strings{"x"}));
  EXPECT_EQ(matches("(?i:'s)", "'\xC5\xBF"), (Strings{"'\xC5\xBF"}));  // long s
}

TEST(Regex, LooksAhead) {
  EXPECT_EQ(matches(R"(\s+(?!\S)|\s+)", "a   b  "), (Strings{"  ", " ", "  "}));
  EXPECT_EQ(matches("a(?=b)", "ab ac"), (Strings{"a"}));
  EXPECT_EQ(matches("a(?!b)", "ab ac a"), (Strings{"a", "a"}));
}

TEST(Regex, RefusesWhatItDoesNotRun) {
  for (const char* pattern :
       {"^a",      "a$",    "a.b",      R"(\bword)",     R"(\w+)",      R"(\h)",          "(?<=a)b",
        "(?<!a)b", "(?>a)", "(?i)a",    R"((a)\1)",      R"(\p{Han}+)", "[[:alpha:]]",    "[a&&b]",
        "[a[b]]",  "a**",   "a{2}+",    "a{2}?",         "(?=ab)c",     "(?:ab)++",       "a{65}",
        "a*",      "a?|b",  "(?:a?)*b", "(?i:\xC3\xA9)", "(?i:ss)",     R"((?i:\p{Lu}))", R"(\xC3)",
        R"(\Aa)",  "x}"}) {
    EXPECT_EQ(Regex::compile(pattern).status().code(), StatusCode::kUnimplemented) << pattern;
  }
}

TEST(Regex, RefusesWhatIsMalformed) {
  for (const char* pattern :
       {"(a", "a)", "[a", "*a", "a|+", R"(a\)", R"(\p{L)", R"(\pL)", "a{3,2}", "a{x}", "[b-a]",
        R"([^\s\S])", R"(\x{})", R"(\u00)", R"(\x{110000})", "\xFF"}) {
    EXPECT_EQ(Regex::compile(pattern).status().code(), StatusCode::kInvalidArgument) << pattern;
  }
  EXPECT_EQ(Regex::compile(R"(ab\b)").status().message(), R"(regex: the escape \b at byte 3)");
}

TEST(Regex, BoundsThePatternItself) {
  std::string deep = "a";
  for (int i = 0; i < 1000; ++i) deep = "(" + deep + ")";
  EXPECT_EQ(Regex::compile(deep).status().code(), StatusCode::kUnimplemented);
  std::string large = "a";
  for (int i = 0; i < 4; ++i) large = "(" + large + "){64}";
  EXPECT_EQ(Regex::compile(large).status().code(), StatusCode::kUnimplemented);
  std::string wide = "a";
  for (int i = 0; i < 64; ++i) wide += "|b";
  EXPECT_EQ(Regex::compile(wide).status().code(), StatusCode::kUnimplemented);
}

// Each of these takes time exponential, cubic or quadratic in the text by plain backtracking: hours
// for what is here. The matches are still the first alternatives'.
TEST(Regex, TakesLinearTimeWhateverThePattern) {
  const std::string text(100000, 'a');
  for (const char* pattern : {"(?:a|a)+b", "(?:a+)+b", "a*a*a*a*a*b", "(?:a|aa)+?b", "a*+b",
                              "(?:a?a){8}a*b", R"(\p{L}*(?:\p{L}+\s*)+b)", "(?:(?:a+)+a+)+b"}) {
    EXPECT_EQ(matches(pattern, text), Strings{}) << pattern;
    EXPECT_EQ(matches(std::string(pattern) + "|aaa", text).size(), text.size() / 3) << pattern;
    EXPECT_EQ(matches(pattern, text + "b"), Strings{text + "b"}) << pattern;
  }
}

TEST(Regex, TheGpt2PatternCutsTextCompletely) {
  const std::string text = "It's  2 caf\xC3\xA9s,\n\n they'll see!  ";
  EXPECT_EQ(matches(kGpt2Pattern, text), (Strings{"It", "'s", " ", " 2", " caf\xC3\xA9s", ",",
                                                  "\n\n", " they", "'ll", " see", "!", "  "}));
}

}  // namespace
}  // namespace latentd
