#include "server/http/completion_response.h"

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/server/test_model.h"

namespace latentd {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class CompletionResponseTest : public ::testing::Test {
 protected:
  CompletionResponse& start(std::string_view body) {
    auto request = parse_completion(body);
    EXPECT_TRUE(request.ok()) << request.status().to_string();
    auto prepared = prepare(request->generation, *model_);
    EXPECT_TRUE(prepared.ok()) << prepared.status().to_string();
    response_ = std::make_unique<CompletionResponse>(*request, *prepared, *model_, "cmpl-1");
    return *response_;
  }

  // The JSON of each event of a stream; the last must be [DONE] when `ends`.
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
      if (data == "[DONE]") {
        done = true;
      } else {
        events.push_back(json::parse(data));
      }
    }
    EXPECT_EQ(done, ends);
    return events;
  }

  static TokenPiece piece(TokenId token, float logprob = -0.5F, int offset = 0) {
    return {{token, logprob}, {{token, logprob}}, offset};
  }

  static GenerationUpdate update_of(ChoiceDelta delta, bool done = false) {
    GenerationUpdate update;
    update.choices.push_back(std::move(delta));
    update.done = done;
    update.usage = {3, 2, 1};
    return update;
  }

  std::unique_ptr<ServingModel> model_ = testing::make_test_model();
  std::unique_ptr<CompletionResponse> response_;
};

TEST_F(CompletionResponseTest, StreamsDeltasThenUsageThenDone) {
  start(R"({"prompt": "abc", "stream": true, "stream_options": {"include_usage": true}})");
  const auto first = events_of(update_of({0, "hi", {piece('h'), piece('i')}, {}, {}}));
  ASSERT_THAT(first, SizeIs(1));
  EXPECT_EQ(first[0]["object"], "text_completion");
  EXPECT_EQ(first[0]["id"], "cmpl-1");
  EXPECT_EQ(first[0]["model"], "test/model");
  EXPECT_EQ(first[0]["choices"][0]["text"], "hi");
  EXPECT_TRUE(first[0]["choices"][0]["finish_reason"].is_null());
  EXPECT_TRUE(first[0]["usage"].is_null());
  const auto last =
      events_of(update_of({0, "", {}, {}, Finish{FinishKind::kLength, "", -1}}, true), true);
  ASSERT_THAT(last, SizeIs(2));
  EXPECT_EQ(last[0]["choices"][0]["finish_reason"], "length");
  EXPECT_THAT(last[1]["choices"], SizeIs(0));
  EXPECT_EQ(last[1]["usage"]["total_tokens"], 5);
  EXPECT_EQ(last[1]["usage"]["prompt_tokens_details"]["cached_tokens"], 1);
}

TEST_F(CompletionResponseTest, ATokenWithoutTextMakesNoEventUnlessIdsAreWanted) {
  start(R"({"prompt": "a", "stream": true})");
  EXPECT_THAT(events_of(update_of({0, "", {piece(0xE2)}, {}, {}})), SizeIs(0));
  start(R"({"prompt": "a", "stream": true, "return_token_ids": true})");
  const auto events = events_of(update_of({0, "", {piece(0xE2)}, {}, {}}));
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_THAT(events[0]["choices"][0]["token_ids"], ElementsAre(0xE2));
  EXPECT_THAT(events[0]["choices"][0]["prompt_token_ids"], ElementsAre('a'));
}

TEST_F(CompletionResponseTest, WholeAnswerHasAllChoicesAndTheUsage) {
  start(R"({"prompt": ["a", "b"], "n": 1, "return_token_ids": true, "stop": ["."]})");
  response_->collect(update_of({1, "two", {piece('t')}, {}, {}}));
  response_->collect(update_of({0, "one", {piece('o')}, {}, Finish{FinishKind::kStop, ".", -1}}));
  response_->collect(update_of({1, "!", {piece('!')}, {}, Finish{FinishKind::kStop, "", 257}}));
  const json body = json::parse(response_->body());
  ASSERT_THAT(body["choices"], SizeIs(2));
  EXPECT_EQ(body["choices"][0]["text"], "one");
  EXPECT_EQ(body["choices"][0]["stop_reason"], ".");
  EXPECT_EQ(body["choices"][1]["index"], 1);
  EXPECT_EQ(body["choices"][1]["text"], "two!");
  EXPECT_EQ(body["choices"][1]["stop_reason"], 257);
  EXPECT_THAT(body["choices"][1]["token_ids"], ElementsAre('t', '!'));
  EXPECT_EQ(body["usage"]["prompt_tokens"], 3);
}

TEST_F(CompletionResponseTest, LogprobsHaveTheLegacyShape) {
  start(R"({"prompt": "a", "logprobs": 1})");
  TokenPiece broken = piece(0xE2, -INFINITY, 1);
  broken.top = {{'x', -0.25F}};
  response_->collect(update_of({0, "h", {piece('h', -1.5F, 0), broken}, {}, {}}));
  const json logprobs = json::parse(response_->body())["choices"][0]["logprobs"];
  EXPECT_THAT(logprobs["tokens"], ElementsAre("h", "bytes:\\xe2"));
  EXPECT_THAT(logprobs["token_logprobs"], ElementsAre(-1.5, -9999.0));
  EXPECT_THAT(logprobs["text_offset"], ElementsAre(0, 1));
  EXPECT_EQ(logprobs["top_logprobs"][0], (json{{"h", -1.5}}));
  EXPECT_EQ(logprobs["top_logprobs"][1], (json{{"x", -0.25}, {"bytes:\\xe2", -9999.0}}));
}

TEST_F(CompletionResponseTest, EchoPutsThePromptAndItsLogprobsInFront) {
  start(R"({"prompt": "ab", "echo": true, "logprobs": 0, "max_tokens": 1})");
  response_->collect(update_of({0, "", {}, {piece('b', -2.0F)}, {}}));
  response_->collect(update_of({0, "c", {piece('c', -3.0F, 0)}, {}, Finish{}}));
  const json choice = json::parse(response_->body())["choices"][0];
  EXPECT_EQ(choice["text"], "abc");
  EXPECT_THAT(choice["logprobs"]["tokens"], ElementsAre("a", "b", "c"));
  EXPECT_TRUE(choice["logprobs"]["token_logprobs"][0].is_null());
  EXPECT_TRUE(choice["logprobs"]["top_logprobs"][0].is_null());
  EXPECT_EQ(choice["logprobs"]["token_logprobs"][1], -2.0);
  EXPECT_THAT(choice["logprobs"]["text_offset"], ElementsAre(0, 1, 2));
}

TEST_F(CompletionResponseTest, EchoInAStreamWaitsForAllLogprobsOfThePrompt) {
  start(R"({"prompt": "abc", "echo": true, "logprobs": 0, "stream": true})");
  EXPECT_THAT(events_of(update_of({0, "", {}, {piece('b')}, {}})), SizeIs(0));
  const auto events = events_of(update_of({0, "", {}, {piece('c')}, {}}));
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0]["choices"][0]["text"], "abc");
  EXPECT_THAT(events[0]["choices"][0]["logprobs"]["tokens"], SizeIs(3));
  EXPECT_EQ(events_of(update_of({0, "d", {piece('d')}, {}, {}}))[0]["choices"][0]["text"], "d");
}

TEST_F(CompletionResponseTest, EchoOfTokenIdsIsTheirText) {
  start(R"({"prompt": [104, 105], "echo": true})");
  response_->collect(update_of({0, "!", {piece('!')}, {}, Finish{}}));
  EXPECT_EQ(json::parse(response_->body())["choices"][0]["text"], "hi!");
}

TEST_F(CompletionResponseTest, EventsAreOneLineWhateverTheText) {
  start(R"({"prompt": "a", "stream": true})");
  std::string text;
  response_->append_events(update_of({0, "line\nline\r\n\n", {piece('x')}, {}, {}}), text);
  EXPECT_THAT(text, HasSubstr("line\\nline"));
  EXPECT_EQ(text.find('\n'), text.size() - 2);
}

}  // namespace
}  // namespace latentd
