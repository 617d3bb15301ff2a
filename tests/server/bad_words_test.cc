#include "server/text/bad_words.h"

#include <gmock/gmock.h>

#include "tests/server/test_model.h"

namespace latentd {
namespace {

std::vector<std::uint32_t> mask_of(const TokenConstraint& constraint) {
  std::vector<std::uint32_t> words((testing::kVocabSize + 31) / 32, 0x55555555U);
  constraint.fill_mask(words);
  return words;
}

bool allows(const TokenConstraint& constraint, char c) {
  const auto token = static_cast<unsigned char>(c);
  return (mask_of(constraint)[token / 32] >> (token % 32) & 1U) != 0;
}

class BadWordsTest : public ::testing::Test {
 protected:
  const std::unique_ptr<ServingModel> model_ = testing::make_test_model();
};

TEST_F(BadWordsTest, MasksTheLastTokenWhereTheOthersStand) {
  const auto words = forbid_words({"ab", "x"}, *model_->tokenizer, nullptr);
  EXPECT_TRUE(allows(*words, 'b'));
  EXPECT_FALSE(allows(*words, 'x'));
  EXPECT_TRUE(words->accept('a'));
  EXPECT_FALSE(allows(*words, 'b'));
  EXPECT_TRUE(words->accept('a'));
  EXPECT_TRUE(words->accept('c'));
  EXPECT_TRUE(allows(*words, 'b'));
  EXPECT_FALSE(words->complete());
}

TEST_F(BadWordsTest, NarrowsAnotherConstraint) {
  auto inner = model_->structured->json_schema(R"({"enum": ["a", "b"]})");
  ASSERT_TRUE(inner.ok()) << inner.status().to_string();
  const auto words = forbid_words({"a"}, *model_->tokenizer, *std::move(inner));
  EXPECT_FALSE(allows(*words, 'b'));  // a quote comes first
  EXPECT_TRUE(words->accept('"'));
  EXPECT_FALSE(allows(*words, 'a'));
  EXPECT_TRUE(allows(*words, 'b'));
  EXPECT_TRUE(words->accept('b'));
  EXPECT_TRUE(words->accept('"'));
  EXPECT_TRUE(words->complete());
}

TEST_F(BadWordsTest, LeavesSomethingOfTheOther) {
  auto inner = model_->structured->json_schema(R"({"enum": ["a"]})");
  ASSERT_TRUE(inner.ok()) << inner.status().to_string();
  const auto words = forbid_words({"\""}, *model_->tokenizer, *std::move(inner));
  EXPECT_TRUE(allows(*words, '"'));
  EXPECT_FALSE(allows(*words, 'a'));
}

}  // namespace
}  // namespace latentd
