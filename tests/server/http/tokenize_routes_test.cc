#include "server/http/tokenize_routes.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/server/test_model.h"

namespace latentd {
namespace {

using nlohmann::json;

class TokenizeRoutesTest : public ::testing::Test {
 protected:
  json tokenize(std::string_view body) const {
    const auto reply = answer_tokenize(body, *model_);
    EXPECT_TRUE(reply.ok()) << reply.status().to_string();
    return reply.ok() ? json::parse(reply->body) : json();
  }
  json detokenize(std::string_view body) const {
    const auto reply = answer_detokenize(body, *model_);
    EXPECT_TRUE(reply.ok()) << reply.status().to_string();
    return reply.ok() ? json::parse(reply->body) : json();
  }

  std::unique_ptr<ServingModel> model_ = testing::make_chat_model();
};

TEST_F(TokenizeRoutesTest, AnswersVllmsClients) {
  EXPECT_EQ(
      tokenize(R"({"model": "alias", "prompt": "ab", "return_token_strs": true})"),
      (json{
          {"count", 2}, {"max_model_len", 128}, {"tokens", {97, 98}}, {"token_strs", {"a", "b"}}}));
  EXPECT_EQ(tokenize(R"({"messages": [{"role": "user", "content": "x"}]})")["count"], 18);
  EXPECT_EQ(tokenize(R"({"messages": [{"role": "user", "content": "x"}],
                         "add_generation_prompt": false})")["count"],
            7);
  EXPECT_EQ(detokenize(R"({"tokens": [97, 98, 257]})")["prompt"], "ab<eos>");
}

TEST_F(TokenizeRoutesTest, AnswersLlamaCppsClients) {
  EXPECT_EQ(tokenize(R"({"content": "ab"})")["tokens"], (json{97, 98}));
  const json pieces = tokenize(R"({"content": "aé", "with_pieces": true})")["tokens"];
  EXPECT_EQ(pieces[0], (json{{"id", 97}, {"piece", "a"}}));
  EXPECT_EQ(pieces[1], (json{{"id", 0xC3}, {"piece", json::array({0xC3})}}));
  EXPECT_EQ(detokenize(R"({"tokens": []})")["content"], "");
}

TEST_F(TokenizeRoutesTest, NamesTheFieldThatIsWrong) {
  const auto field = [this](std::string_view body) {
    return answer_tokenize(body, *model_).status().field();
  };
  EXPECT_EQ(field("{}"), "prompt");
  EXPECT_EQ(field(R"({"prompt": 3})"), "prompt");
  EXPECT_EQ(field(R"({"content": ["a"]})"), "content");
  EXPECT_EQ(field(R"({"prompt": "a", "model": "other"})"), "model");
  EXPECT_EQ(field(R"({"prompt": "a", "with_pieces": 1})"), "with_pieces");
  EXPECT_EQ(field(R"({"messages": []})"), "messages");
  for (const char* body : {"{}", R"({"tokens": "a"})", R"({"tokens": [258]})",
                           R"({"tokens": [-1]})", R"({"tokens": [1.5]})"}) {
    EXPECT_EQ(answer_detokenize(body, *model_).status().field(), "tokens") << body;
  }
}

}  // namespace
}  // namespace latentd
