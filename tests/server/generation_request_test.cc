#include "server/generation_request.h"

#include <gmock/gmock.h>

#include <cmath>

#include "server/chat_messages.h"
#include "server/json_value.h"
#include "tests/server/test_model.h"

namespace latentd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class GenerationRequestTest : public ::testing::Test {
 protected:
  static GenerationRequest of_text(std::string text) {
    GenerationRequest request;
    request.prompts = {std::move(text)};
    return request;
  }

  void expect_fault(const GenerationRequest& request, const std::string& field,
                    StatusCode code = StatusCode::kInvalidArgument) {
    const Status status = prepare(request, *model_).status();
    EXPECT_EQ(status.code(), code) << status.to_string();
    EXPECT_EQ(status.field(), field) << status.to_string();
  }

  std::unique_ptr<ServingModel> model_ = testing::make_test_model();
};

TEST_F(GenerationRequestTest, TakesTokenIdsAsTheyAreAndTokenisesText) {
  GenerationRequest request = of_text("ab");
  request.prompts.emplace_back(std::vector<TokenId>{256, 7});
  const auto prepared = prepare(request, *model_);
  ASSERT_TRUE(prepared.ok()) << prepared.status().to_string();
  ASSERT_THAT(prepared->inputs, SizeIs(2));
  EXPECT_THAT(prepared->inputs[0].tokens, ElementsAre('a', 'b'));
  EXPECT_THAT(prepared->inputs[1].tokens, ElementsAre(256, 7));
  EXPECT_EQ(prepared->inputs[0].max_new_tokens, 16);
}

TEST_F(GenerationRequestTest, ClampsTheDefaultButNotTheAskedLengthToTheContext) {
  GenerationRequest request = of_text(std::string(120, 'a'));
  EXPECT_EQ(prepare(request, *model_)->inputs[0].max_new_tokens, 8);
  request.max_tokens = 8;
  EXPECT_TRUE(prepare(request, *model_).ok());
  request.max_tokens = 9;
  expect_fault(request, "prompt", StatusCode::kOutOfRange);
  EXPECT_THAT(prepare(request, *model_).status().message(), HasSubstr("129"));
}

TEST_F(GenerationRequestTest, RejectsAPromptThatCannotFitWithoutReadingIt) {
  expect_fault(of_text(std::string(4 << 20, 'a')), "prompt", StatusCode::kOutOfRange);
}

TEST_F(GenerationRequestTest, AllowsZeroNewTokensBehindAFullContext) {
  GenerationRequest request = of_text(std::string(128, 'a'));
  request.max_tokens = 0;
  EXPECT_TRUE(prepare(request, *model_).ok());
  request.max_tokens.reset();
  expect_fault(request, "prompt", StatusCode::kOutOfRange);
}

TEST_F(GenerationRequestTest, NamesTheFieldAtFault) {
  const auto with = [](auto change) {
    GenerationRequest request = of_text("a");
    change(request);
    return request;
  };
  using R = GenerationRequest;
  expect_fault(with([](R& r) { r.max_tokens = -1; }), "max_tokens");
  expect_fault(with([](R& r) { r.temperature = 2.1; }), "temperature");
  expect_fault(with([](R& r) { r.temperature = std::nan(""); }), "temperature");
  expect_fault(with([](R& r) { r.top_p = 0.0; }), "top_p");
  expect_fault(with([](R& r) { r.top_k = -2; }), "top_k");
  expect_fault(with([](R& r) { r.min_p = 1.5; }), "min_p");
  expect_fault(with([](R& r) { r.presence_penalty = -2.5; }), "presence_penalty");
  expect_fault(with([](R& r) { r.frequency_penalty = 3.0; }), "frequency_penalty");
  expect_fault(with([](R& r) { r.repetition_penalty = 0.0; }), "repetition_penalty");
  expect_fault(with([](R& r) { r.logit_bias = {{1, 101.0}}; }), "logit_bias");
  expect_fault(with([](R& r) { r.logit_bias = {{258, 1.0}}; }), "logit_bias");
  expect_fault(with([](R& r) { r.stop.assign(17, "x"); }), "stop");
  expect_fault(with([](R& r) { r.stop = {std::string(257, 'x')}; }), "stop");
  expect_fault(with([](R& r) { r.stop = {""}; }), "stop");
  expect_fault(with([](R& r) { r.stop_token_ids = {-1}; }), "stop_token_ids");
  expect_fault(with([](R& r) { r.logprobs = 21; }), "logprobs");
  expect_fault(with([](R& r) { r.n = 0; }), "n");
  expect_fault(with([](R& r) { r.n = 129; }), "n");
  expect_fault(with([](R& r) { r.min_tokens = -1; }), "min_tokens");
  expect_fault(with([](R& r) {
                 r.max_tokens = 2;
                 r.min_tokens = 3;
               }),
               "min_tokens");
  expect_fault(with([](R& r) { r.prompts.clear(); }), "prompt");
  expect_fault(with([](R& r) { r.prompts = {std::vector<TokenId>{}}; }), "prompt");
  expect_fault(with([](R& r) { r.prompts = {std::vector<TokenId>{258}}; }), "prompt");
  expect_fault(with([](R& r) { r.prompts = {std::vector<TokenId>{-1}}; }), "prompt");
  expect_fault(with([](R& r) { r.prompts = {std::string()}; }), "prompt");
  expect_fault(with([](R& r) { r.model = "other"; }), "model", StatusCode::kNotFound);
}

TEST_F(GenerationRequestTest, BoundsChoicesTimesPrompts) {
  GenerationRequest request = of_text("a");
  request.prompts.assign(65, std::string("a"));
  request.n = 2;
  expect_fault(request, "n");
  request.prompts.resize(64);
  EXPECT_TRUE(prepare(request, *model_).ok());
}

TEST_F(GenerationRequestTest, RendersConversationsAndAddsNothingAroundThem) {
  model_ = testing::make_chat_model();
  ChatPrompt chat;
  ASSERT_EQ(read_messages(value_of_json(R"([{"role": "user", "content": "x"}])"), chat),
            ok_status());
  GenerationRequest request;
  request.prompts.emplace_back(std::move(chat));
  const auto prepared = prepare(request, *model_);
  ASSERT_TRUE(prepared.ok()) << prepared.status().to_string();
  EXPECT_EQ(std::get<std::string>(prepared->request.prompts[0]), "[user]x[assistant]");
  request.max_tokens = 128;
  expect_fault(request, "messages", StatusCode::kOutOfRange);
  model_->chat = nullptr;
  expect_fault(request, "messages");
}

TEST_F(GenerationRequestTest, GivesEachChoiceItsConstraint) {
  GenerationRequest request = of_text("a");
  request.n = 2;
  request.format = OutputFormat::kJsonSchema;
  request.json_schema = R"({"type": "integer"})";
  auto prepared = prepare(request, *model_);
  ASSERT_TRUE(prepared.ok()) << prepared.status().to_string();
  ASSERT_THAT(prepared->constraints, SizeIs(2));
  const auto engine = make_engine_request(*prepared, *model_, 1, RequestId(1), 9);
  ASSERT_NE(engine->constraint, nullptr);
  EXPECT_FALSE(engine->constraint->accept('x'));
  EXPECT_TRUE(make_engine_request(*prepared, *model_, 0, RequestId(0), 9)->constraint->accept('7'));
  request.json_schema = R"({"type": "colour"})";
  expect_fault(request, "response_format");
  request.json_schema = "{";
  expect_fault(request, "response_format");
  request.json_schema = std::string(1 << 20, ' ');
  expect_fault(request, "response_format");
}

TEST_F(GenerationRequestTest, AllowedTokensMustBeSomeOfTheModels) {
  GenerationRequest request = of_text("a");
  request.allowed_token_ids = {65, 66};
  auto prepared = prepare(request, *model_);
  ASSERT_TRUE(prepared.ok());
  EXPECT_THAT(make_engine_request(*prepared, *model_, 0, RequestId(0), 9)->sampling.allowed_tokens,
              ElementsAre(65, 66));
  request.allowed_token_ids = {testing::kVocabSize};
  expect_fault(request, "allowed_token_ids");
  request.allowed_token_ids->clear();
  expect_fault(request, "allowed_token_ids");
}

TEST_F(GenerationRequestTest, KnowsTheModelByAllItsNames) {
  GenerationRequest request = of_text("a");
  request.model = "alias";
  EXPECT_TRUE(prepare(request, *model_).ok());
}

TEST_F(GenerationRequestTest, FallsBackToTheModelsDefaults) {
  model_->defaults.temperature = 0.6F;
  model_->defaults.top_k = 50;
  GenerationRequest request = of_text("a");
  request.top_k = -1;
  request.n = 2;
  request.seed = 40;
  auto prepared = prepare(request, *model_);
  const auto engine = make_engine_request(*prepared, *model_, 1, RequestId(5), 0);
  EXPECT_FLOAT_EQ(engine->sampling.temperature, 0.6F);
  EXPECT_EQ(engine->sampling.top_k, 0);  // switched off by the request
  EXPECT_EQ(engine->sampling.seed, 41U);
  EXPECT_EQ(engine->id, RequestId(5));
  EXPECT_THAT(engine->stop_tokens, ElementsAre(testing::kEos));
}

TEST_F(GenerationRequestTest, IgnoringTheEndKeepsTheClientsStopTokens) {
  GenerationRequest request = of_text("a");
  request.ignore_eos = true;
  request.stop_token_ids = {10};
  request.min_tokens = 4;
  auto prepared = prepare(request, *model_);
  const auto engine = make_engine_request(*prepared, *model_, 0, RequestId(1), 9);
  EXPECT_THAT(engine->stop_tokens, ElementsAre(10));
  EXPECT_THAT(engine->sampling.banned_until_min_tokens, ElementsAre(10));
  EXPECT_EQ(engine->min_new_tokens, 4);
  EXPECT_EQ(engine->sampling.seed, 9U);
}

}  // namespace
}  // namespace latentd
