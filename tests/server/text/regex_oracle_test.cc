// Random patterns of the dialect against PCRE2, which means the same by all of it.

#define PCRE2_CODE_UNIT_WIDTH 8
#include <gtest/gtest.h>
#include <pcre2.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "server/text/regex.h"

namespace latentd {
namespace {

class Pcre2 {
 public:
  explicit Pcre2(const std::string& pattern) {
    int error = 0;
    PCRE2_SIZE at = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                              PCRE2_UTF | PCRE2_UCP, &error, &at, nullptr));
    if (code_) data_.reset(pcre2_match_data_create_from_pattern(code_.get(), nullptr));
    context_.reset(pcre2_match_context_create(nullptr));
    pcre2_set_match_limit(context_.get(), 20000);  // PCRE2 does backtrack exponentially
  }

  bool ok() const { return code_ != nullptr; }

  // False when PCRE2 gave up (its match limit).
  bool find_all(const std::string& text, std::vector<Regex::Match>& out) const {
    out.clear();
    for (std::size_t at = 0;;) {
      const int rc = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()),
                                 text.size(), at, 0, data_.get(), context_.get());
      if (rc == PCRE2_ERROR_NOMATCH) return true;
      if (rc < 0) return false;
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data_.get());
      out.push_back({range[0], range[1]});
      at = range[1];
    }
  }

 private:
  struct Free {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
    void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
    void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
  };
  std::unique_ptr<pcre2_code, Free> code_;
  std::unique_ptr<pcre2_match_data, Free> data_;
  std::unique_ptr<pcre2_match_context, Free> context_;
};

class Generator {
 public:
  explicit Generator(unsigned seed) : random_(seed) {}

  std::size_t below(std::size_t n) { return random_() % n; }

  std::string pattern() {
    std::string out;
    for (std::size_t i = 1 + below(4); i > 0; --i) {
      if (!out.empty()) out += '|';
      out += branch(2);
    }
    return out;
  }

  std::string text() {
    static const std::vector<std::string> kParts = {
        "a", "b", "c", "A", "B", "1", "2", " ", "\n", "'s", "'S", ",", "\xC3\xA9", "\xE6\xBC\xA2"};
    std::string out;
    for (std::size_t i = below(30); i > 0; --i) out += kParts[below(kParts.size())];
    // Sometimes a long run, so that the steps run out and tried branches are remembered.
    if (below(4) == 0) out += std::string(60 + below(100), below(2) == 0 ? 'a' : ' ') + text();
    return out;
  }

 private:
  std::string branch(int depth) {
    std::string out;
    for (std::size_t i = 1 + below(4); i > 0; --i) out += item(depth);
    return out;
  }

  std::string item(int depth) {
    static const std::vector<std::string> kSets = {"a",
                                                   "b",
                                                   "c",
                                                   " ",
                                                   "[ab]",
                                                   "[^a]",
                                                   "[a-c1]",
                                                   R"(\s)",
                                                   R"(\S)",
                                                   R"(\p{L})",
                                                   R"(\p{N})",
                                                   R"(\p{Lu})",
                                                   R"([^\s\p{L}\p{N}])",
                                                   R"([\r\n])",
                                                   R"([^\r\n\p{L}])",
                                                   "\xC3\xA9",
                                                   R"(\d)"};
    static const std::vector<std::string> kCounts = {
        "", "", "", "?", "*", "+", "*?", "+?", "??", "{2}", "{1,3}", "{2,}", "{0,2}"};
    static const std::vector<std::string> kPossessive = {"?+", "*+", "++"};
    const std::size_t roll = below(10);
    if (roll == 0) return "(?!" + kSets[below(kSets.size())] + ")";
    if (roll == 1) return "(?=" + kSets[below(kSets.size())] + ")";
    if (roll == 2) return "(?i:'s|'t|b)" + kCounts[below(kCounts.size())];
    if (roll < 6 && depth > 0) {
      std::string group = below(2) == 0 ? "(?:" : "(";
      group += branch(depth - 1);
      if (below(2) == 0) group += "|" + branch(depth - 1);
      return group + ")" + kCounts[below(kCounts.size())];
    }
    const auto& counts = below(6) == 0 ? kPossessive : kCounts;
    return kSets[below(kSets.size())] + counts[below(counts.size())];
  }

  std::mt19937 random_;
};

TEST(Regex, FindsWhatPcre2FindsForRandomPatterns) {
  constexpr unsigned kSeed = 3;
  RecordProperty("seed", static_cast<int>(kSeed));
  Generator generator(kSeed);
  Regex::Scratch scratch;
  std::vector<Regex::Match> found;
  std::vector<Regex::Match> expected;
  int compared = 0;
  int remembered = 0;
  for (int round = 0; round < 3000; ++round) {
    const std::string pattern = generator.pattern();
    const auto regex = Regex::compile(pattern);
    if (!regex.ok()) {  // it can be empty, or repeats what can be
      ASSERT_EQ(regex.status().code(), StatusCode::kUnimplemented) << pattern;
      continue;
    }
    const Pcre2 oracle(pattern);
    ASSERT_TRUE(oracle.ok()) << pattern;
    for (int i = 0; i < 4; ++i) {
      const std::string text = generator.text();
      regex->find_all(text, scratch, found);
      if (!oracle.find_all(text, expected)) continue;
      ASSERT_EQ(found, expected) << pattern << "\non: " << text;
      ++compared;
      remembered += scratch.remembering ? 1 : 0;
    }
  }
  EXPECT_GT(compared, 2000);
  EXPECT_GT(remembered, 10);
}

}  // namespace
}  // namespace latentd
