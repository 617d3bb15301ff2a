#include "server/grpc/convert.h"

#include <gmock/gmock.h>

#include "tests/server/test_model.h"

namespace latentd {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;
using ::testing::SizeIs;

TEST(Convert, ReadsEveryFieldOfARequest) {
  v1::GenerateRequest message;
  message.set_model("m");
  message.mutable_token_ids()->add_ids(7);
  auto& sampling = *message.mutable_sampling();
  sampling.set_temperature(0.5F);
  sampling.set_top_k(3);
  sampling.set_seed(9);
  (*sampling.mutable_logit_bias())[4] = -1.0F;
  auto& stopping = *message.mutable_stopping();
  stopping.set_max_tokens(0);
  stopping.add_stop("x");
  stopping.add_stop_token_ids(2);
  stopping.set_ignore_eos(true);
  auto& output = *message.mutable_output();
  output.set_n(2);
  output.set_logprobs(0);
  output.set_keep_special_tokens(true);
  message.set_priority(-1);

  const auto request = to_generation_request(message, 100);
  ASSERT_TRUE(request.ok()) << request.status().to_string();
  EXPECT_EQ(request->model, "m");
  EXPECT_THAT(std::get<std::vector<TokenId>>(request->prompts.at(0)), ElementsAre(7));
  EXPECT_EQ(request->temperature, 0.5);
  EXPECT_EQ(request->top_k, 3);
  EXPECT_FALSE(request->top_p.has_value());
  EXPECT_EQ(request->seed, 9U);
  EXPECT_THAT(request->logit_bias, ElementsAre(Pair(4, -1.0)));
  EXPECT_EQ(request->max_tokens, 0);
  EXPECT_EQ(request->default_max_tokens, 100);
  EXPECT_THAT(request->stop, ElementsAre("x"));
  EXPECT_THAT(request->stop_token_ids, ElementsAre(2));
  EXPECT_TRUE(request->ignore_eos);
  EXPECT_EQ(request->n, 2);
  EXPECT_EQ(request->logprobs, 0);
  EXPECT_FALSE(request->skip_special_tokens);
  EXPECT_EQ(request->priority, -1);
}

TEST(Convert, UnsetIsTheServersDefaultNotZero) {
  v1::GenerateRequest message;
  message.set_text("hi");
  const auto request = to_generation_request(message, 100);
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->n, 1);
  EXPECT_EQ(request->logprobs, -1);
  EXPECT_FALSE(request->max_tokens.has_value());
  EXPECT_FALSE(request->temperature.has_value());
}

TEST(Convert, ARequestNeedsAPrompt) {
  EXPECT_EQ(to_generation_request({}, 1).status().field(), "prompt");
}

TEST(Convert, WritesWhatIsNewOfAChoice) {
  const auto model = testing::make_test_model();
  GenerationRequest request;
  request.logprobs = 1;
  ChoiceDelta delta{2, "h", {{{'h', -0.5F}, {{'h', -0.5F}}, 0}}, {}, {}};
  delta.finish = Finish{FinishKind::kStop, "", testing::kEos};
  const auto message = to_response(delta, request.logprobs >= 0, *model->tokenizer, nullptr);
  EXPECT_EQ(message.index(), 2);
  EXPECT_EQ(message.text(), "h");
  EXPECT_THAT(message.token_ids(), ElementsAre('h'));
  ASSERT_THAT(message.logprobs(), SizeIs(1));
  EXPECT_EQ(message.logprobs(0).token().token(), "h");
  EXPECT_THAT(message.logprobs(0).top(), SizeIs(1));
  EXPECT_EQ(message.finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(message.stop_token_id(), testing::kEos);

  delta.finish.reset();
  request.logprobs = -1;
  const auto bare = to_response(delta, request.logprobs >= 0, *model->tokenizer, nullptr);
  EXPECT_THAT(bare.logprobs(), SizeIs(0));
  EXPECT_EQ(bare.finish_reason(), v1::FINISH_REASON_UNSPECIFIED);
  EXPECT_FALSE(bare.has_stop_token_id());
}

TEST(Convert, ErrorsOpenWithTheirField) {
  const auto status = to_grpc_status(invalid_argument("n", "must be at least 1"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "n: must be at least 1");
  // The context's length is an argument's fault, not the end of a range that is read.
  EXPECT_EQ(to_grpc_status(Status(StatusCode::kOutOfRange, "long")).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(to_grpc_status(ok_status()).ok());
}

TEST(Convert, ReadsAConversationLikeHttpDoes) {
  v1::GenerateRequest message;
  v1::Chat& chat = *message.mutable_chat();
  chat.add_messages()->set_role("user");
  chat.mutable_messages(0)->set_content("hi");
  v1::ChatMessage& answer = *chat.add_messages();
  answer.set_role("assistant");
  answer.add_tool_calls()->set_name("f");
  answer.mutable_tool_calls(0)->set_arguments(R"({"a": 1})");
  chat.add_tools()->set_name("f");
  chat.mutable_tools(0)->set_parameters_json(R"({"properties": {"a": {"type": "string"}}})");
  chat.mutable_tool_choice()->set_mode(v1::ToolChoice::MODE_NAMED);
  chat.mutable_tool_choice()->set_name("f");
  chat.set_template_kwargs_json(R"({"thinking": true})");
  message.mutable_sampling()->add_bad_words("x");
  message.mutable_format();

  const auto request = to_generation_request(message, 100);
  ASSERT_TRUE(request.ok()) << request.status().to_string();
  const auto& prompt = std::get<ChatPrompt>(request->prompts.at(0));
  EXPECT_EQ(prompt.messages.sequence()->items.size(), 2U);
  EXPECT_EQ(prompt.tools.sequence()->items.size(), 1U);
  EXPECT_EQ(prompt.more.at(0).first, "thinking");
  EXPECT_EQ(request->tool_use.choice, ToolUse::Choice::kForced);
  EXPECT_EQ(request->tool_use.name, "f");
  EXPECT_THAT(request->tool_use.tools.at(0).signature.string_parameters, ElementsAre("a"));
  EXPECT_THAT(request->bad_words, ElementsAre("x"));

  chat.mutable_messages(1)->set_role("boss");
  EXPECT_EQ(to_generation_request(message, 100).status().field(), "messages[1].role");
  chat.mutable_messages(1)->set_role("assistant");
  chat.mutable_tools(0)->set_parameters_json("{");
  EXPECT_EQ(to_generation_request(message, 100).status().field(), "tools[0].function.parameters");
}

TEST(Convert, TellsThoughtsTextAndCallsApart) {
  const auto model = testing::make_chat_model();
  model->chat =
      testing::load_chat_format(R"({"chat_template": "<tool_call> arguments </think>"})").value();
  GenerationRequest request;
  request.tool_use.choice = ToolUse::Choice::kAuto;
  request.tool_use.tools = {{{"f", {}}, ""}};
  ChatOutput output(request, *model, "");
  ChoiceDelta delta;
  delta.text = "<think>hm</think>ok <tool_call>{\"name\": \"f\"}</tool_call>";
  delta.finish = Finish{};
  const auto message = to_response(delta, request.logprobs >= 0, *model->tokenizer, &output);
  EXPECT_EQ(message.reasoning(), "hm");
  EXPECT_EQ(message.text(), "ok");
  ASSERT_EQ(message.tool_calls_size(), 1);
  EXPECT_EQ(message.tool_calls(0).name(), "f");
  EXPECT_EQ(message.tool_calls(0).arguments(), "{}");
  EXPECT_EQ(message.finish_reason(), v1::FINISH_REASON_TOOL_CALLS);
}

}  // namespace
}  // namespace latentd
