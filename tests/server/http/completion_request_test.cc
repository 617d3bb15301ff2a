#include "server/http/completion_request.h"

#include <gmock/gmock.h>

namespace latentd {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;
using ::testing::SizeIs;

CompletionRequest parse_ok(std::string_view body) {
  auto request = parse_completion(body);
  EXPECT_TRUE(request.ok()) << request.status().to_string();
  return request.ok() ? *request : CompletionRequest();
}

std::string fault_of(std::string_view body) {
  const Status status = parse_completion(body).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << body;
  return status.field();
}

TEST(CompletionRequest, ReadsEveryField) {
  const auto request = parse_ok(R"({
    "model": "m", "prompt": "hi", "n": 2, "max_tokens": 7, "min_tokens": 1, "temperature": 0.5,
    "top_p": 0.9, "top_k": 40, "min_p": 0.1, "presence_penalty": 1, "frequency_penalty": -1,
    "repetition_penalty": 1.1, "seed": -1, "stop": ["a", "b"], "stop_token_ids": [3],
    "logit_bias": {"5": -100, "6": 1.5}, "logprobs": 3, "echo": true, "ignore_eos": true,
    "include_stop_str_in_output": true, "skip_special_tokens": false, "return_token_ids": true,
    "stream": true, "stream_options": {"include_usage": true}, "priority": 4, "user": "u",
    "unknown": {"x": 1}, "best_of": 2, "suffix": null})");
  const GenerationRequest& generation = request.generation;
  EXPECT_EQ(generation.model, "m");
  EXPECT_EQ(std::get<std::string>(generation.prompts.at(0)), "hi");
  EXPECT_EQ(generation.n, 2);
  EXPECT_EQ(generation.max_tokens, 7);
  EXPECT_EQ(generation.min_tokens, 1);
  EXPECT_EQ(generation.temperature, 0.5);
  EXPECT_EQ(generation.top_k, 40);
  EXPECT_EQ(generation.frequency_penalty, -1.0);
  EXPECT_EQ(generation.seed, ~std::uint64_t{0});
  EXPECT_THAT(generation.stop, ElementsAre("a", "b"));
  EXPECT_THAT(generation.stop_token_ids, ElementsAre(3));
  EXPECT_THAT(generation.logit_bias, ElementsAre(Pair(5, -100.0), Pair(6, 1.5)));
  EXPECT_EQ(generation.logprobs, 3);
  EXPECT_GE(generation.prompt_logprobs, 0);  // echo with logprobs
  EXPECT_TRUE(generation.ignore_eos);
  EXPECT_TRUE(generation.include_stop_in_output);
  EXPECT_FALSE(generation.skip_special_tokens);
  EXPECT_EQ(generation.priority, 4);
  EXPECT_TRUE(request.output.stream && request.output.include_usage && request.echo);
  EXPECT_TRUE(request.output.return_token_ids);
}

TEST(CompletionRequest, NullIsAsGoodAsAbsent) {
  const auto request = parse_ok(
      R"({"prompt": "x", "n": null, "max_tokens": null, "stop": null, "logprobs": null,
          "logit_bias": null, "stream": null, "stream_options": null, "seed": null})");
  EXPECT_EQ(request.generation.n, 1);
  EXPECT_FALSE(request.generation.max_tokens.has_value());
  EXPECT_EQ(request.generation.logprobs, -1);
}

TEST(CompletionRequest, TakesAllFourKindsOfPrompt) {
  EXPECT_THAT(parse_ok(R"({"prompt": ["a", "b"]})").generation.prompts, SizeIs(2));
  const auto ids = parse_ok(R"({"prompt": [1, 2]})");
  EXPECT_THAT(std::get<std::vector<TokenId>>(ids.generation.prompts.at(0)), ElementsAre(1, 2));
  const auto lists = parse_ok(R"({"prompt": [[1], [2, 3]]})");
  ASSERT_THAT(lists.generation.prompts, SizeIs(2));
  EXPECT_THAT(std::get<std::vector<TokenId>>(lists.generation.prompts.at(1)), ElementsAre(2, 3));
}

TEST(CompletionRequest, NamesTheFieldOfAWrongType) {
  EXPECT_EQ(fault_of(R"({})"), "prompt");
  EXPECT_EQ(fault_of(R"({"prompt": 3})"), "prompt");
  EXPECT_EQ(fault_of(R"({"prompt": []})"), "prompt");
  EXPECT_EQ(fault_of(R"({"prompt": [1, "a"]})"), "prompt");
  EXPECT_EQ(fault_of(R"({"prompt": [99999999999]})"), "prompt");
  EXPECT_EQ(fault_of(R"({"prompt": [true]})"), "prompt");
  EXPECT_EQ(fault_of(R"({"prompt": "x", "n": "2"})"), "n");
  EXPECT_EQ(fault_of(R"({"prompt": "x", "max_tokens": 1.5})"), "max_tokens");
  EXPECT_EQ(fault_of(R"({"prompt": "x", "max_tokens": 1e20})"), "max_tokens");
  EXPECT_EQ(fault_of(R"({"prompt": "x", "temperature": "hot"})"), "temperature");
  EXPECT_EQ(fault_of(R"({"prompt": "x", "stop": 1})"), "stop");
  EXPECT_EQ(fault_of(R"({"prompt": "x", "stop": [1]})"), "stop");
  EXPECT_EQ(fault_of(R"({"prompt": "x", "logit_bias": {"a": 1}})"), "logit_bias");
  EXPECT_EQ(fault_of(R"({"prompt": "x", "logit_bias": [1]})"), "logit_bias");
  EXPECT_EQ(fault_of(R"({"prompt": "x", "logprobs": true})"), "logprobs");
  EXPECT_EQ(fault_of(R"({"prompt": "x", "logprobs": -1})"), "logprobs");
  EXPECT_EQ(fault_of(R"({"prompt": "x", "stream": 1})"), "stream");
  EXPECT_EQ(fault_of(R"({"prompt": "x", "stream_options": true})"), "stream_options");
  EXPECT_EQ(fault_of(R"({"prompt": "x", "seed": 1.5})"), "seed");
}

TEST(CompletionRequest, RefusesWhatItDoesNotDo) {
  EXPECT_EQ(fault_of(R"({"prompt": "x", "suffix": "end"})"), "suffix");
  EXPECT_EQ(fault_of(R"({"prompt": "x", "best_of": 1, "n": 2})"), "best_of");
  EXPECT_EQ(fault_of(R"({"prompt": "x", "best_of": 2, "stream": true})"), "best_of");
  EXPECT_EQ(fault_of(R"({"prompt": "x", "prompt_logprobs": 1, "stream": true})"),
            "prompt_logprobs");
}

TEST(CompletionRequest, MakesBestOfAndShowsN) {
  const auto request = parse_ok(R"({"prompt": "x", "best_of": 3, "n": 2})");
  EXPECT_EQ(request.generation.n, 3);
  EXPECT_EQ(request.n, 2);
  EXPECT_EQ(request.generation.logprobs, 0);  // to choose by
  EXPECT_FALSE(request.logprobs);             // and not to show
}

TEST(CompletionRequest, RefusesBrokenJson) {
  std::string deep = R"({"prompt": )";
  for (int i = 0; i < 100; ++i) deep += '[';
  for (const std::string_view body :
       {std::string_view(""), std::string_view("{"), std::string_view("[1]"),
        std::string_view("nope"), std::string_view(R"({"prompt": "a", "prompt": "b"})"),
        std::string_view("{\"prompt\": \"\xff\"}"), std::string_view(deep)}) {
    EXPECT_EQ(fault_of(body), "") << body;
  }
}

}  // namespace
}  // namespace latentd
