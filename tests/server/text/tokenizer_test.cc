#include "server/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "tests/server/text/tiny_tokenizer.h"

namespace latentd {
namespace {

using testing::added_token;
using ::testing::HasSubstr;
using testing::ids_of;
using testing::merge_id;
using testing::TinyTokenizer;

using Ids = std::vector<TokenId>;

Ids operator+(Ids a, const Ids& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Status refusal(const std::string& json) {
  const auto tokenizer = Tokenizer::parse(json);
  EXPECT_FALSE(tokenizer.ok());
  return tokenizer.status();
}

TEST(Tokenizer, EncodesAndDecodesText) {
  TinyTokenizer tiny;
  tiny.merges = {{"a", "b"}, {"\xC4\xA0", "ab"}};  // U+0120 stands for the space
  const auto tokenizer = tiny.build();
  EXPECT_EQ(tokenizer->encode("ab ab!", false), (Ids{merge_id(0), merge_id(1), '!'}));
  EXPECT_EQ(tokenizer->decode({merge_id(0), merge_id(1), '!'}, false), "ab ab!");
  EXPECT_EQ(tokenizer->token_bytes(merge_id(1)), " ab");
  EXPECT_EQ(tokenizer->token_text(merge_id(1)),
            "\xC4\xA0"
            "ab");
  EXPECT_EQ(tokenizer->token_to_id("\xC4\xA0"
                                   "ab"),
            merge_id(1));
  EXPECT_EQ(tokenizer->token_to_id(" ab"), std::nullopt);
  EXPECT_EQ(tokenizer->vocab_size(), 258);
  EXPECT_EQ(tokenizer->encode("", true), Ids{});
}

TEST(Tokenizer, ReadsInvalidUtf8AsReplacements) {
  const auto tokenizer = TinyTokenizer{}.build();
  EXPECT_EQ(tokenizer->encode("a\xFF\xE6\xBC", false), ids_of("a\xEF\xBF\xBD\xEF\xBF\xBD"));
  EXPECT_EQ(tokenizer->decode({0xE6, 0xBC}, false), "\xEF\xBF\xBD");
}

TEST(Tokenizer, AddedTokensInTextBecomeTheirIds) {
  TinyTokenizer tiny;
  tiny.added = {added_token(256, "<a>", R"(, "special": true)"), added_token(257, "<a><b>"),
                added_token(258, "ab")};
  const auto tokenizer = tiny.build();
  EXPECT_EQ(tokenizer->encode("x<a><b><a>cabb", false),
            (ids_of("x") + Ids{257, 256} + ids_of("c") + Ids{258} + ids_of("b")));
  EXPECT_TRUE(tokenizer->is_special(256));
  EXPECT_FALSE(tokenizer->is_special(257));
  EXPECT_FALSE(tokenizer->is_special(-1));
  EXPECT_EQ(tokenizer->decode({256, 257}, true), "<a><b>");
  EXPECT_EQ(tokenizer->decode({256, 257}, false), "<a><a><b>");
}

TEST(Tokenizer, AddedTokensTakeTheWhiteSpaceTheyAskFor) {
  TinyTokenizer tiny;
  tiny.added = {added_token(256, "<l>", R"(, "lstrip": true)"),
                added_token(257, "<r>", R"(, "rstrip": true)")};
  const auto tokenizer = tiny.build();
  EXPECT_EQ(tokenizer->encode("a \n<l> b <r>\t\xE3\x80\x80"
                              "c",
                              false),
            ids_of("a") + Ids{256} + ids_of(" b ") + Ids{257} + ids_of("c"));
  EXPECT_EQ(tokenizer->encode("<r> <l>", false), (Ids{257, 256}));
}

TEST(Tokenizer, SingleWordTokensStandAlone) {
  TinyTokenizer tiny;
  tiny.added = {added_token(256, "yes", R"(, "single_word": true)")};
  const auto tokenizer = tiny.build();
  EXPECT_EQ(tokenizer->encode("yes, yes", false), Ids{256} + ids_of(", ") + Ids{256});
  for (const char* text : {"yesterday", "eyes", "_yes", "yes\xCC\x81", "yes1", "\xE6\xBC\xA2yes"}) {
    EXPECT_EQ(tokenizer->encode(text, false), ids_of(text)) << text;
  }
}

TEST(Tokenizer, TheTemplateIsAppliedWhenAsked) {
  TinyTokenizer tiny;
  tiny.added = {added_token(256, "<bos>", R"(, "special": true)"),
                added_token(257, "<eos>", R"(, "special": true)")};
  tiny.post_processor = R"({"type": "Sequence", "processors": [{"type": "ByteLevel"},
    {"type": "TemplateProcessing",
     "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A"}},
                {"SpecialToken": {"id": "<eos>", "type_id": 0}}],
     "special_tokens": {"<bos>": {"ids": [256]}, "<eos>": {"ids": [257]}}}]})";
  const auto tokenizer = tiny.build();
  EXPECT_EQ(tokenizer->encode("hi", true), Ids{256} + ids_of("hi") + Ids{257});
  EXPECT_EQ(tokenizer->encode("hi", false), ids_of("hi"));
  EXPECT_EQ(tokenizer->encode("", true), (Ids{256, 257}));
}

TEST(Tokenizer, MergesMayBeLinesOrPairs) {
  TinyTokenizer tiny;
  tiny.merges = {{"a", "b"}};
  std::string json = tiny.json();
  const std::string pair = R"(["a", "b"])";
  json.replace(json.find(pair), pair.size(), R"("#version: 0.2", "a b")");
  const auto tokenizer = Tokenizer::parse(json);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().to_string();
  EXPECT_EQ((*tokenizer)->encode("ab", false), (Ids{256}));
}

TEST(Tokenizer, RefusesByPathWhatItDoesNotRun) {
  const auto unimplemented = [](const TinyTokenizer& tiny) {
    const Status status = refusal(tiny.json());
    EXPECT_EQ(status.code(), StatusCode::kUnimplemented);
    return status.message();
  };
  TinyTokenizer tiny;
  tiny.normalizer = R"({"type": "Lowercase"})";
  EXPECT_EQ(unimplemented(tiny), "normalizer.type: Lowercase");
  tiny = {};
  tiny.pre_tokenizer = R"({"type": "Sequence", "pretokenizers": [{"type": "Metaspace"}]})";
  EXPECT_EQ(unimplemented(tiny), "pre_tokenizer.pretokenizers[0].type: Metaspace");
  tiny.pre_tokenizer = R"({"type": "Split", "pattern": {"Regex": "\\bx"}, "behavior": "Isolated"})";
  EXPECT_EQ(unimplemented(tiny), "pre_tokenizer.pattern: regex: the escape \\b at byte 1");
  tiny.pre_tokenizer =
      R"({"type": "Split", "pattern": {"Regex": "x"}, "behavior": "MergedWithNext"})";
  EXPECT_EQ(unimplemented(tiny), "pre_tokenizer.behavior: MergedWithNext");
  tiny.pre_tokenizer = R"({"type": "Digits"})";
  EXPECT_EQ(unimplemented(tiny), "pre_tokenizer: one that does not end in ByteLevel");
  tiny.pre_tokenizer =
      R"({"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}, {"type": "Digits"}]})";
  EXPECT_EQ(unimplemented(tiny), "pre_tokenizer.pretokenizers[1]: a pre-tokenizer after ByteLevel");
  tiny = {};
  tiny.post_processor = R"({"type": "BertProcessing"})";
  EXPECT_EQ(unimplemented(tiny), "post_processor.type: BertProcessing");
  tiny = {};
  tiny.decoder = "null";
  EXPECT_EQ(unimplemented(tiny), "decoder: none");
  tiny = {};
  tiny.more_model = R"(, "end_of_word_suffix": "</w>")";
  EXPECT_EQ(unimplemented(tiny), "model.end_of_word_suffix: not empty");
}

TEST(Tokenizer, RefusesMalformedFilesByPath) {
  const auto malformed = [](const std::string& json) {
    const Status status = refusal(json);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status.to_string();
    return status.message();
  };
  EXPECT_EQ(malformed(""), "not JSON at byte 1");
  EXPECT_EQ(malformed("[]"), "not a JSON object");
  EXPECT_EQ(malformed(R"({"a": 1, "a": 2})"), "the key \"a\" is there twice");
  EXPECT_EQ(malformed(std::string(100, '[')), "deeper than 64 levels");
  EXPECT_EQ(malformed(R"({"model": {"vocab": {"a": "b"}}})"),
            "model.vocab: an id that is not a whole number");
  EXPECT_EQ(malformed(R"({"model": {"vocab": {"a": [1]}}})"),
            "a vocabulary or a merge with an array inside");
  EXPECT_EQ(malformed(R"({"model": {"merges": ["a b", "a b c"]}})"),
            "model.merges[1]: not two tokens with a space between");
  EXPECT_EQ(malformed(R"({"model": {"merges": [["a"]]}})"), "model.merges[0]: not a pair");
  EXPECT_EQ(malformed(R"({"model": {"vocab": {}, "vocab": {}}})"),
            "the key \"vocab\" is there twice");

  TinyTokenizer tiny;
  tiny.more_vocabulary = {"a"};
  EXPECT_THAT(malformed(tiny.json()), HasSubstr("model.vocab: the token \"a\" is there twice"));
  tiny = {};
  tiny.added = {added_token(300, "<a>")};
  EXPECT_EQ(malformed(tiny.json()),
            "added_tokens[0].id: must be 256, the id that follows, got 300");
  tiny.added = {added_token(256, "<a>"), added_token(256, "<a>")};
  EXPECT_EQ(malformed(tiny.json()), "added_tokens[1].content: is there twice");
  tiny.added = {"7"};
  EXPECT_EQ(malformed(tiny.json()), "added_tokens[0].content: must be a string");
  tiny = {};
  tiny.pre_tokenizer = "7";
  EXPECT_EQ(malformed(tiny.json()), "pre_tokenizer.type: must be a string");
}

TEST(Tokenizer, ATruncatedFileIsAnErrorAtEveryByte) {
  TinyTokenizer tiny;
  tiny.merges = {{"a", "b"}};
  tiny.added = {added_token(257, "<a>")};
  const std::string json = tiny.json();
  for (std::size_t size = 0; size < json.size(); ++size) {
    ASSERT_FALSE(Tokenizer::parse(std::string_view(json).substr(0, size)).ok()) << size;
  }
  ASSERT_TRUE(Tokenizer::parse(json).ok());
}

TEST(Tokenizer, LoadingNamesTheFile) {
  const auto missing = Tokenizer::load("/nowhere/tokenizer.json");
  EXPECT_EQ(missing.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(missing.status().message(), HasSubstr("/nowhere/tokenizer.json"));

  const std::string path = ::testing::TempDir() + "malformed_tokenizer.json";
  std::ofstream(path) << "{";
  const auto malformed = Tokenizer::load(path);
  EXPECT_EQ(malformed.status().message(), path + ": not JSON at byte 2");
}

TEST(Tokenizer, IsSharedByThreads) {
  TinyTokenizer tiny;
  tiny.merges = {{"a", "b"}, {"ab", "ab"}};
  const auto tokenizer = tiny.build();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&tokenizer, t] {
      const std::string tail = std::to_string(t);
      for (int i = 0; i < 2000; ++i) {
        ASSERT_EQ(tokenizer->encode("abab" + tail, false), Ids{merge_id(1)} + ids_of(tail));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace latentd
