// JsonConstraint and VocabularyTrie: masks are exact, ends are seen, caches change nothing.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

#include "server/text/schema/json_constraint.h"
#include "server/text/schema/structured_output.h"
#include "tests/server/text/schema/schema_harness.h"

namespace latentd::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kSchemas[] = {
    R"({"type": "object"})",
    R"({"type": "string", "minLength": 3, "maxLength": 9})",
    R"({"type": "array", "items": {"type": "number", "minimum": -5, "maximum": 1000}})",
    R"({"properties": {"a": {"type": "string"}, "ab": {"enum": ["x", "xy", 1]}, "name": {}},
        "required": ["ab"], "additionalProperties": {"type": "integer"}})",
    R"({"anyOf": [{"properties": {"kind": {"const": "a"}, "v": {"$ref": "#"}}, "required": ["kind"]},
        {"properties": {"kind": {"const": "ab"}, "v": {"type": "array", "items": {"$ref": "#"}}}},
        {"type": "integer"}, {"pattern": "^[a-c]{2,9}é?$"}]})",
    R"({"prefixItems": [{"format": "date"}, {"type": ["boolean", "null"]}], "items": {"type": "object",
        "additionalProperties": {"type": "string", "maxLength": 4}}, "maxItems": 5})",
};

using Program = std::shared_ptr<const SchemaProgram>;

std::unique_ptr<TokenConstraint> fresh(const Program& program) {
  return make_json_constraint(program, vocabulary().trie(), {vocabulary().eos()});
}

// The mask of a constraint that is new at this place, so that no cache has been at work.
std::vector<TokenId> fresh_mask(const Program& program, const std::vector<TokenId>& taken) {
  const auto constraint = fresh(program);
  for (const TokenId token : taken) EXPECT_TRUE(constraint->accept(token));
  return allowed(*constraint, vocabulary().num_words());
}

// The tokens that accept takes, tried one by one.
std::vector<TokenId> tried(const Program& program, const std::vector<TokenId>& taken) {
  std::vector<TokenId> out;
  for (TokenId token = 0; token <= vocabulary().eos(); ++token) {
    const auto constraint = fresh(program);
    for (const TokenId before : taken) EXPECT_TRUE(constraint->accept(before));
    if (constraint->accept(token)) out.push_back(token);
  }
  return out;
}

TEST(JsonConstraint, MasksExactlyWhatItAccepts) {
  const unsigned seed = 20240607;
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  for (const char* schema : kSchemas) {
    SCOPED_TRACE(schema);
    const Program program = SchemaProgram::compile(schema).value();
    for (int walk = 0; walk < 6; ++walk) {
      const auto constraint = fresh(program);
      std::vector<TokenId> taken;
      for (int i = 0; i < 40 && !constraint->complete(); ++i) {
        const std::vector<TokenId> may = allowed(*constraint, vocabulary().num_words());
        ASSERT_FALSE(may.empty());
        ASSERT_EQ(may, fresh_mask(program, taken));
        if (i % 4 == walk % 4) {
          ASSERT_EQ(may, tried(program, taken));
        }
        taken.push_back(may[random() % may.size()]);
        ASSERT_TRUE(constraint->accept(taken.back()));
      }
    }
  }
}

TEST(JsonConstraint, EndsANumberOnlyByTheEndOfText) {
  const auto constraint = constrain(R"({"type": "integer"})");
  EXPECT_FALSE(constraint->accept(vocabulary().eos()));
  ASSERT_TRUE(constraint->accept('1'));
  EXPECT_FALSE(constraint->complete());
  const std::vector<TokenId> may = allowed(*constraint, vocabulary().num_words());
  EXPECT_THAT(may, Contains(vocabulary().eos()));
  EXPECT_THAT(may, Contains('7'));
  EXPECT_THAT(may, Not(Contains(' ')));
  ASSERT_TRUE(constraint->accept(vocabulary().eos()));
  EXPECT_TRUE(constraint->complete());
  EXPECT_FALSE(constraint->accept('1'));
}

TEST(JsonConstraint, IsCompleteWhenNothingMayFollow) {
  const auto constraint = constrain(R"({"type": "array", "items": {"type": "null"}})");
  ASSERT_TRUE(constraint->accept('['));
  EXPECT_FALSE(constraint->complete());
  ASSERT_TRUE(constraint->accept(']'));
  EXPECT_TRUE(constraint->complete());
  EXPECT_THAT(allowed(*constraint, vocabulary().num_words()), ElementsAre(vocabulary().eos()));
}

TEST(JsonConstraint, RefusesWithoutMoving) {
  const auto constraint = constrain(R"({"type": "boolean"})");
  EXPECT_FALSE(constraint->accept('x'));
  EXPECT_FALSE(constraint->accept(-1));
  EXPECT_FALSE(constraint->accept(1 << 20));
  ASSERT_TRUE(constraint->accept('t'));
  EXPECT_THAT(allowed(*constraint, vocabulary().num_words()), ElementsAre('r'));
}

TEST(JsonConstraint, LeavesOutTokensBeyondTheLogits) {
  const auto constraint = constrain(R"({"type": "boolean"})");
  EXPECT_THAT(allowed(*constraint, 3), ElementsAre());  // ids below 96 only
  EXPECT_THAT(allowed(*constraint, 4), ElementsAre('f', 't'));
}

TEST(JsonConstraint, StopsAtSixtyFourLevels) {
  const char* const lists = R"({"type": "array", "items": {"$ref": "#"}})";
  for (const int depth : {64, 65, 66}) {
    std::string text(static_cast<std::size_t>(depth), '[');
    text += std::string(static_cast<std::size_t>(depth), ']');
    EXPECT_EQ(admits(lists, text), depth <= 65) << depth;
  }
  // A required value below is left room for.
  const char* const pairs = R"({"anyOf": [{"type": "null"}, {"type": "array", "minItems": 1,
      "items": {"type": "array", "minItems": 1, "items": {"$ref": "#"}}}]})";
  const auto constraint = constrain(pairs);
  std::string text;
  while (!constraint->complete()) {
    const std::vector<TokenId> may = allowed(*constraint, vocabulary().num_words());
    ASSERT_FALSE(may.empty());
    // Down as far as it goes, then up.
    TokenId token = may[0];
    for (const TokenId wanted : {TokenId{'n'}, TokenId{'['}, TokenId{']'}}) {
      if (std::find(may.begin(), may.end(), wanted) != may.end()) token = wanted;
    }
    ASSERT_TRUE(constraint->accept(token));
    text += static_cast<char>(token);
  }
  EXPECT_EQ(text, std::string(64, '[') + "null" + std::string(64, ']'));
}

TEST(StructuredOutput, MakesConstraintsForTheBundledTokenizer) {
  const auto tokenizer = Tokenizer::load(LATENTD_SOURCE_DIR "/models/latent-mini/tokenizer.json");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().to_string();
  const std::vector<TokenId> eos{0};
  StructuredOutput output(**tokenizer, eos);
  const auto refused = output.json_schema(R"({"not": {}})");
  EXPECT_EQ(refused.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(refused.status().message(), HasSubstr("#/not"));
  for (int i = 0; i < 2; ++i) {
    auto constraint = output.json_schema(R"({"properties": {"name": {"type": "string"}}})");
    ASSERT_TRUE(constraint.ok());
    for (const TokenId token : (*tokenizer)->encode("{\"name\": \"O'Brien é日\"}", false)) {
      const std::size_t num_words = static_cast<std::size_t>((*tokenizer)->vocab_size() + 31) / 32;
      ASSERT_THAT(allowed(**constraint, num_words), Contains(token));
      ASSERT_TRUE((*constraint)->accept(token));
    }
    EXPECT_TRUE((*constraint)->complete());
  }
  const auto object = output.json_object();
  EXPECT_FALSE(object->accept((*tokenizer)->encode("[", false)[0]));
  EXPECT_TRUE(object->accept((*tokenizer)->encode("{", false)[0]));
}

}  // namespace
}  // namespace latentd::testing
