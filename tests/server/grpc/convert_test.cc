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
  const auto message = to_response(delta, request, *model->tokenizer);
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
  const auto bare = to_response(delta, request, *model->tokenizer);
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

}  // namespace
}  // namespace latentd
