#include "server/http/chat_response.h"

#include <gmock/gmock.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "tests/server/test_model.h"

namespace latentd {
namespace {

using nlohmann::json;
using ::testing::SizeIs;

class ChatResponseTest : public ::testing::Test {
 protected:
  ChatResponse& start(std::string fields) {
    const auto request =
        parse_chat(R"({"messages": [{"role": "user", "content": "abc"}], )" + fields + "}");
    EXPECT_TRUE(request.ok()) << request.status().to_string();
    const auto prepared = prepare_chat(*request, *model_);
    EXPECT_TRUE(prepared.ok()) << prepared.status().to_string();
    response_ = std::make_unique<ChatResponse>(*request, *prepared, *model_, "chatcmpl-1");
    return *response_;
  }

  // The JSON of each event; the last must be [DONE] when `ends`.
  std::vector<json> events_of(const GenerationUpdate& update, bool ends = false) {
    std::string text;
    response_->append_events(update, text);
    std::vector<json> events;
    bool done = false;
    while (!text.empty()) {
      const std::size_t end = text.find("\n\n");
      EXPECT_NE(end, std::string::npos);
      EXPECT_TRUE(text.starts_with("data: "));
      EXPECT_FALSE(done) << "something came after [DONE]";
      const std::string data = text.substr(6, end - 6);
      text.erase(0, end + 2);
      done = data == "[DONE]";
      if (!done) events.push_back(json::parse(data));
    }
    EXPECT_EQ(done, ends);
    return events;
  }

  static TokenPiece piece(TokenId token, float logprob = -0.5F) {
    return {{token, logprob}, {{token, logprob}}, 0};
  }

  static ChoiceDelta delta(std::string text, std::vector<TokenPiece> tokens = {}, int choice = 0) {
    return {choice, std::move(text), std::move(tokens), {}, {}};
  }

  static ChoiceDelta last(std::string text, Finish finish = {FinishKind::kStop, "", -1}) {
    return {0, std::move(text), {}, {}, std::move(finish)};
  }

  static GenerationUpdate update_of(ChoiceDelta delta, bool done = false) {
    GenerationUpdate update;
    update.choices.push_back(std::move(delta));
    update.done = done;
    update.usage = {3, 2, 1};
    return update;
  }

  std::unique_ptr<ServingModel> model_ = testing::make_chat_model();
  std::unique_ptr<ChatResponse> response_;
};

TEST_F(ChatResponseTest, StreamsTheRoleThenDeltasThenTheReasonThenUsage) {
  start(R"("stream": true, "stream_options": {"include_usage": true})");
  const auto first = events_of(update_of(delta("hi")));
  ASSERT_THAT(first, SizeIs(2));
  EXPECT_EQ(first[0]["object"], "chat.completion.chunk");
  EXPECT_EQ(first[0]["id"], "chatcmpl-1");
  EXPECT_EQ(first[0]["model"], "test/model");
  EXPECT_EQ(first[0]["choices"][0]["delta"], (json{{"role", "assistant"}, {"content", ""}}));
  EXPECT_EQ(first[1]["choices"][0]["delta"], (json{{"content", "hi"}}));
  EXPECT_TRUE(first[1]["choices"][0]["finish_reason"].is_null());
  EXPECT_TRUE(first[1].at("usage").is_null());

  const auto rest = events_of(update_of(last(" you"), true), true);
  ASSERT_THAT(rest, SizeIs(3));
  EXPECT_EQ(rest[0]["choices"][0]["delta"], (json{{"content", " you"}}));
  EXPECT_EQ(rest[1]["choices"][0]["delta"], json::object());
  EXPECT_EQ(rest[1]["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(rest[2]["choices"], json::array());
  EXPECT_EQ(rest[2]["usage"]["prompt_tokens"], 3);
  EXPECT_EQ(rest[2]["usage"]["total_tokens"], 5);
  EXPECT_EQ(rest[2]["usage"]["prompt_tokens_details"]["cached_tokens"], 1);
}

TEST_F(ChatResponseTest, SendsNothingForTokensThatMakeNoTextYet) {
  start(R"("stream": true)");
  EXPECT_THAT(events_of(update_of(delta("", {piece(0xC3)}))), SizeIs(1));  // the role
  EXPECT_THAT(events_of(update_of(delta("", {piece(0xC3)}))), SizeIs(0));
  const auto events = events_of(update_of(delta("x")));
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_FALSE(events[0].contains("usage"));
}

TEST_F(ChatResponseTest, EveryChoiceHasItsOwnRole) {
  start(R"("stream": true, "n": 2)");
  GenerationUpdate update = update_of(delta("a", {}, 0));
  update.choices.push_back(delta("b", {}, 1));
  const auto events = events_of(update);
  ASSERT_THAT(events, SizeIs(4));
  EXPECT_EQ(events[2]["choices"][0]["index"], 1);
  EXPECT_EQ(events[2]["choices"][0]["delta"]["role"], "assistant");
  EXPECT_EQ(events[3]["choices"][0]["delta"]["content"], "b");
}

TEST_F(ChatResponseTest, LogprobsHaveBytesAndNoInfinities) {
  start(R"("logprobs": true, "top_logprobs": 1)");
  response_->collect(
      update_of(delta("h", {piece('h'), piece(0xE2, -std::numeric_limits<float>::infinity())})));
  response_->collect(update_of(last(""), true));
  const json content = json::parse(response_->body())["choices"][0]["logprobs"]["content"];
  ASSERT_THAT(content, SizeIs(2));
  EXPECT_EQ(content[0]["token"], "h");
  EXPECT_EQ(content[0]["logprob"], -0.5);
  EXPECT_EQ(content[0]["bytes"], json::array({'h'}));
  EXPECT_EQ(content[0]["top_logprobs"][0]["token"], "h");
  EXPECT_EQ(content[0]["top_logprobs"][0]["bytes"], json::array({'h'}));
  EXPECT_EQ(content[1]["token"], "bytes:\\xe2");
  EXPECT_EQ(content[1]["bytes"], json::array({0xE2}));
  EXPECT_EQ(content[1]["logprob"], -9999.0);
}

TEST_F(ChatResponseTest, WholeAnswersHaveAMessageAndUsage) {
  start(R"("return_token_ids": true)");
  response_->collect(update_of(delta("hi", {piece('h'), piece('i')})));
  response_->collect(update_of(last("", {FinishKind::kStop, "END", -1}), true));
  const json body = json::parse(response_->body());
  EXPECT_EQ(body["object"], "chat.completion");
  const json& choice = body["choices"][0];
  EXPECT_EQ(choice["message"],
            (json{{"role", "assistant"}, {"content", "hi"}, {"refusal", nullptr}}));
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_EQ(choice["stop_reason"], "END");
  EXPECT_TRUE(choice["logprobs"].is_null());
  EXPECT_EQ(choice["token_ids"], json::array({'h', 'i'}));
  EXPECT_THAT(body["prompt_token_ids"], SizeIs(20));  // "[user]abc[assistant]"
  EXPECT_EQ(body["usage"]["completion_tokens"], 2);
}

TEST_F(ChatResponseTest, StreamedTokenIdsComeWithTheirTextAndThePromptsOnce) {
  start(R"("stream": true, "return_token_ids": true,
           "stream_options": {"continuous_usage_stats": true})");
  const auto events = events_of(update_of(delta("h", {piece('h')})));
  ASSERT_THAT(events, SizeIs(2));
  EXPECT_THAT(events[0]["prompt_token_ids"], SizeIs(20));
  EXPECT_FALSE(events[1].contains("prompt_token_ids"));
  EXPECT_EQ(events[1]["choices"][0]["token_ids"], json::array({'h'}));
  EXPECT_EQ(events[1]["usage"]["completion_tokens"], 2);
}

TEST_F(ChatResponseTest, ThoughtsOfModelsThatThinkAloudAreNotContent) {
  model_->chat = testing::load_chat_format(
                     R"({"chat_template": "{{ messages[0].content.split('</think>')[-1] }}"})")
                     .value();
  start(R"("stream": true)");
  const auto thinking = events_of(update_of(delta("<think>hm")));
  ASSERT_THAT(thinking, SizeIs(2));
  EXPECT_EQ(thinking[1]["choices"][0]["delta"], (json{{"reasoning_content", "hm"}}));
  const auto both = events_of(update_of(last("!</think>ok"), true), true);
  EXPECT_EQ(both[0]["choices"][0]["delta"], (json{{"reasoning_content", "!"}, {"content", "ok"}}));

  start(R"("n": 1)");
  response_->collect(update_of(last("<think>hm</think>ok"), true));
  const json message = json::parse(response_->body())["choices"][0]["message"];
  EXPECT_EQ(message["reasoning_content"], "hm");
  EXPECT_EQ(message["content"], "ok");
}

constexpr std::string_view kTool = R"("tools": [{"type": "function", "function": {"name": "f"}}])";

TEST_F(ChatResponseTest, StreamsCallsInPartsAndSaysSoAtTheEnd) {
  model_->chat = testing::load_chat_format(R"({"chat_template": "<tool_call> arguments"})").value();
  start(std::string(kTool) + R"(, "stream": true)");
  const auto text = events_of(update_of(delta("hm <tool_")));
  ASSERT_THAT(text, SizeIs(2));
  EXPECT_EQ(text[1]["choices"][0]["delta"], (json{{"content", "hm"}}));
  const auto named = events_of(update_of(delta(R"(call>{"name": "f", "arguments": )")));
  ASSERT_THAT(named, SizeIs(1));
  json call = named[0]["choices"][0]["delta"]["tool_calls"][0];
  EXPECT_TRUE(call["id"].get<std::string>().starts_with("call_"));
  call.erase("id");
  EXPECT_EQ(
      call,
      (json{{"index", 0}, {"type", "function"}, {"function", {{"name", "f"}, {"arguments", ""}}}}));
  const auto rest = events_of(update_of(last("{\"a\": 1}}</tool_call>"), true), true);
  ASSERT_THAT(rest, SizeIs(2));
  EXPECT_EQ(rest[0]["choices"][0]["delta"],
            (json{{"tool_calls", {{{"index", 0}, {"function", {{"arguments", "{\"a\": 1}"}}}}}}}));
  EXPECT_EQ(rest[1]["choices"][0]["finish_reason"], "tool_calls");
}

TEST_F(ChatResponseTest, WholeAnswersHaveWholeCallsAndNoEmptyContent) {
  start(std::string(kTool) + R"(, "tool_choice": "required")");
  response_->collect(update_of(delta(R"([{"name":"f","arg)")));
  response_->collect(update_of(last(R"(uments":{"a":1}}])"), true));
  const json choice = json::parse(response_->body())["choices"][0];
  EXPECT_TRUE(choice["message"]["content"].is_null());
  EXPECT_EQ(choice["message"]["tool_calls"][0]["function"],
            (json{{"name", "f"}, {"arguments", R"({"a":1})"}}));
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
}

TEST_F(ChatResponseTest, AnAnswerThatIsCutStaysCut) {
  start(std::string(kTool) + R"(, "tool_choice": "required")");
  response_->collect(
      update_of(last(R"([{"name":"f","arguments":{"a)", {FinishKind::kLength, "", -1}), true));
  const json choice = json::parse(response_->body())["choices"][0];
  EXPECT_EQ(choice["message"]["tool_calls"][0]["function"]["arguments"], R"({"a)");
  EXPECT_EQ(choice["finish_reason"], "length");
}

TEST_F(ChatResponseTest, TellsWhatItHasCostWhenAsked) {
  GenerationUpdate update = update_of(last("x"), true);
  update.usage.cost = {.queue_seconds = 0.5,
                       .first_token_seconds = 2.0,
                       .prefill_seconds = 1.0,
                       .decode_seconds = 4.0,
                       .steps = 7,
                       .kv_byte_seconds = 1e6};
  start(R"("cost_report": true)");
  response_->collect(update);
  EXPECT_EQ(json::parse(response_->body())["usage"]["cost"], (json{{"queue_ms", 500.0},
                                                                   {"ttft_ms", 2000.0},
                                                                   {"prefill_ms", 1000.0},
                                                                   {"decode_ms", 4000.0},
                                                                   {"cached_tokens", 1},
                                                                   {"steps", 7},
                                                                   {"kv_byte_seconds", 1e6}}));
  start(R"("n": 1)");
  response_->collect(update);
  EXPECT_FALSE(json::parse(response_->body())["usage"].contains("cost"));
}

TEST_F(ChatResponseTest, ShowsThePromptsLogprobsAsVllmDoes) {
  start(R"("prompt_logprobs": 1)");
  ChoiceDelta first = delta("x");
  first.prompt_tokens.push_back({{'b', -2.0F}, {{'c', -0.5F}}, 0});
  response_->collect(update_of(first));
  response_->collect(update_of(last(""), true));
  EXPECT_EQ(json::parse(response_->body())["prompt_logprobs"],
            json::parse(R"([null, {"98": {"logprob": -2.0, "rank": null, "decoded_token": "b"},
                             "99": {"logprob": -0.5, "rank": 1, "decoded_token": "c"}}])"));
}

}  // namespace
}  // namespace latentd
