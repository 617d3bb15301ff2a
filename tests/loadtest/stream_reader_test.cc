#include "loadtest/stream_reader.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace latentd::loadtest {
namespace {

std::string chunk(const std::string& data) {
  char size[20];
  std::snprintf(size, sizeof(size), "%zx", data.size());
  return std::string(size) + "\r\n" + data + "\r\n";
}

const std::string kHead =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\ntransfer-encoding: Chunked\r\n\r\n";

struct Read {
  std::vector<std::string> events;
  bool valid = true;
};

Read feed(StreamReader& reader, const std::string& bytes, std::size_t piece) {
  Read read;
  for (std::size_t at = 0; at < bytes.size() && read.valid; at += piece) {
    // A copy, so that a view kept too long is caught by the address sanitizer.
    const std::string part = bytes.substr(at, piece);
    read.valid = reader.feed(part, [&](std::string_view data) { read.events.emplace_back(data); });
  }
  return read;
}

TEST(StreamReader, GivesTheSameEventsWhereverTheBordersFall) {
  // Events end inside, at and across chunk borders; a comment, a CRLF line, no space after "data:".
  const std::string bytes = kHead + chunk("data: {\"a\":1}\n\nda") +
                            chunk("ta: two\r\n\r\n: hello\n") +
                            chunk("\ndata:three\n\ndata: [DONE]\n\n") + "0\r\n\r\n";
  const std::vector<std::string> expected = {"{\"a\":1}", "two", "three", "[DONE]"};
  for (std::size_t piece = 1; piece <= bytes.size(); ++piece) {
    StreamReader reader;
    const Read read = feed(reader, bytes, piece);
    EXPECT_TRUE(read.valid) << piece;
    EXPECT_EQ(read.events, expected) << piece;
    EXPECT_TRUE(reader.complete()) << piece;
    EXPECT_TRUE(reader.keep_alive()) << piece;
    EXPECT_EQ(reader.status(), 200) << piece;
  }
}

TEST(StreamReader, ReadsAnotherResponseAfterAReset) {
  StreamReader reader;
  const std::string bytes = kHead + chunk("data: 1\n\n") + "0\r\n\r\n";
  for (int i = 0; i < 3; ++i) {
    const Read read = feed(reader, bytes, 7);
    EXPECT_EQ(read.events, std::vector<std::string>{"1"});
    EXPECT_TRUE(reader.complete());
    reader.reset();
    EXPECT_FALSE(reader.started());
  }
}

TEST(StreamReader, ReadsBodiesWithALengthAndBodiesThatEndWithTheConnection) {
  for (std::size_t piece = 1; piece < 60; ++piece) {
    StreamReader sized;
    EXPECT_EQ(feed(sized, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ndata: x\n\n", piece).events,
              std::vector<std::string>{"x"});
    EXPECT_TRUE(sized.complete());
    StreamReader endless;
    EXPECT_EQ(feed(endless, "HTTP/1.1 200 OK\r\n\r\ndata: x\n\n", piece).events,
              std::vector<std::string>{"x"});
    EXPECT_FALSE(endless.complete());
    EXPECT_TRUE(endless.complete_at_close());
    EXPECT_FALSE(endless.keep_alive());
  }
}

TEST(StreamReader, ABodyCutShortIsNotComplete) {
  StreamReader reader;
  feed(reader, kHead + chunk("data: 1\n\n"), 1000);
  EXPECT_FALSE(reader.complete_at_close());
}

TEST(StreamReader, KeepsTheBeginningOfAnErrorsBodyAndCallsItNoEvent) {
  StreamReader reader;
  const std::string body = "data: " + std::string(2000, 'x') + "\n\n";
  const Read read = feed(reader,
                         "HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\n"
                         "Content-Length: " +
                             std::to_string(body.size()) + "\r\n\r\n" + body,
                         100);
  EXPECT_TRUE(read.events.empty());
  EXPECT_EQ(reader.status(), 429);
  EXPECT_EQ(reader.error_body(), body.substr(0, StreamReader::kMaxErrorBody));
  EXPECT_TRUE(reader.complete());
  EXPECT_FALSE(reader.keep_alive());
}

TEST(StreamReader, SkipsAnInterimResponse) {
  StreamReader reader;
  const Read read =
      feed(reader, "HTTP/1.1 100 Continue\r\n\r\n" + kHead + chunk("data: 1\n\n") + "0\r\n\r\n", 5);
  EXPECT_EQ(read.events, std::vector<std::string>{"1"});
}

TEST(StreamReader, RefusesWhatIsNotHttp) {
  for (const std::string& bytes : {std::string("SSH-2.0-OpenSSH\r\n"), kHead + "zz\r\n",
                                   kHead + "1\r\nab\r\n", "HTTP/1.1 " + std::string(20'000, 'x')}) {
    StreamReader reader;
    EXPECT_FALSE(feed(reader, bytes, 11).valid) << bytes.substr(0, 40);
  }
}

TEST(ScanEvent, FindsTextUsageAndTheEnd) {
  EXPECT_FALSE(scan_event("[DONE]", kEmptyHash).has_text);
  const EventFacts text =
      scan_event(R"({"choices":[{"index":0,"text":" a","finish_reason":null}],"usage":null})", 1);
  EXPECT_TRUE(text.has_text);
  EXPECT_FALSE(text.finished);
  EXPECT_FALSE(text.error);
  EXPECT_EQ(text.completion_tokens, -1);
  const EventFacts usage = scan_event(
      R"({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3,
          "prompt_tokens_details": {"cached_tokens": 5}}})",
      1);
  EXPECT_FALSE(usage.has_text);
  EXPECT_EQ(usage.prompt_tokens, 7);
  EXPECT_EQ(usage.completion_tokens, 3);
  EXPECT_EQ(usage.cached_tokens, 5);
  EXPECT_TRUE(
      scan_event(R"({"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]})", 1).finished);
  EXPECT_FALSE(
      scan_event(R"({"choices":[{"delta":{"role":"assistant","content":""}}]})", 1).has_text);
  EXPECT_TRUE(scan_event(R"({"error":{"message":"out of luck"}})", 1).error);
  EXPECT_FALSE(scan_event(R"({"error":null,"choices":[]})", 1).error);
}

TEST(ScanEvent, ReadsWhatOtherServersSay) {
  const EventFacts timings = scan_event(
      R"({"choices":[{"delta":{},"finish_reason":"length","index":0}],
          "timings":{"cache_n":3,"predicted_n":12,"prompt_n":4}})",
      1);
  EXPECT_TRUE(timings.at_length);
  EXPECT_EQ(timings.completion_tokens, 12);
  EXPECT_EQ(timings.prompt_tokens, 7);
  EXPECT_EQ(timings.cached_tokens, 3);
  EXPECT_FALSE(scan_event(R"({"choices":[{"finish_reason":"stop"}]})", 1).at_length);
  EXPECT_TRUE(scan_event(R"({"choices":[{"delta":{"reasoning":"hm"}}]})", 1).has_text);
  EXPECT_FALSE(
      scan_event(R"({"choices":[{"delta":{"role":"assistant","content":null}}]})", 1).has_text);
}

TEST(StreamReader, RemembersALineThatSaysError) {
  StreamReader reader;
  const Read read = feed(reader, kHead + chunk("data: 1\n\nerror: {\"code\":500}\n\n"), 3);
  EXPECT_EQ(read.events, std::vector<std::string>{"1"});
  EXPECT_TRUE(reader.saw_error_line());
  reader.reset();
  EXPECT_FALSE(reader.saw_error_line());
}

TEST(ScanEvent, IsNotFooledByWhatAModelWrites) {
  const EventFacts facts = scan_event(
      R"({"choices":[{"text":"{\"error\":{}, \"usage\":{\"completion_tokens\":9}","token_ids":[]}]})",
      1);
  EXPECT_FALSE(facts.error);
  EXPECT_EQ(facts.completion_tokens, -1);
  EXPECT_TRUE(facts.has_text);
}

TEST(ScanEvent, HashesTokenIdsInOrderAndLeavesThePromptsAlone) {
  const auto hash = [](const char* data) { return scan_event(data, kEmptyHash).hash; };
  const EventFacts facts =
      scan_event(R"({"choices":[{"text":"","prompt_token_ids":[9,9],"token_ids":[5, 6]}]})", 1);
  EXPECT_EQ(facts.token_ids, 2);
  EXPECT_TRUE(facts.has_text);
  EXPECT_EQ(hash(R"({"token_ids":[5,6]})"), hash_token(hash_token(kEmptyHash, 5), 6));
  EXPECT_NE(hash(R"({"token_ids":[5,6]})"), hash(R"({"token_ids":[6,5]})"));
  EXPECT_NE(hash(R"({"token_ids":[5,6]})"), hash(R"({"token_ids":[56]})"));
}

}  // namespace
}  // namespace latentd::loadtest
