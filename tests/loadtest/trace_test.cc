#include "loadtest/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace latentd::loadtest {
namespace {

using testing::HasSubstr;

constexpr const char* kHeader = "TIMESTAMP,ContextTokens,GeneratedTokens\n";

std::string csv(const std::string& lines) { return kHeader + lines; }

TEST(CsvTrace, ReadsTimesAndLengths) {
  const auto trace = parse_csv_trace(
      csv("2023-11-16 23:59:59.5000000,4808,10\r\n2023-11-17 00:00:01.2500000,110,0\r\n"));
  ASSERT_TRUE(trace.ok()) << trace.status().to_string();
  ASSERT_EQ(trace->size(), 2U);
  EXPECT_EQ((*trace)[0].at_seconds, 0.0);
  EXPECT_NEAR((*trace)[1].at_seconds, 1.75, 1e-6);
  EXPECT_EQ((*trace)[0].prompt_tokens, 4808);
  EXPECT_EQ((*trace)[0].output_tokens, 10);
  EXPECT_EQ((*trace)[1].output_tokens, 1);  // a request generates at least one token
}

TEST(CsvTrace, NamesTheLineOfAFault) {
  const char* good = "2023-11-16 18:17:03.97,10,10\n";
  const std::pair<const char*, const char*> cases[] = {
      {"2023-11-16 18:17:03.97,10\n", "three fields"},
      {"yesterday,10,10\n", "TIMESTAMP"},
      {"2023-13-16 18:17:03.97,10,10\n", "TIMESTAMP"},
      {"2023-11-16 18:17:03.9x,10,10\n", "TIMESTAMP"},
      {"2023-11-16 18:17:03.97,ten,10\n", "ContextTokens"},
      {"2023-11-16 18:17:03.97,10,1.5\n", "GeneratedTokens"},
      {"2023-11-16 18:17:03.97,0,10\n", "1 to 10000000, got 0"},
      {"2023-11-16 18:17:03.97,10,-1\n", "got -1"},
  };
  for (const auto& [line, what] : cases) {
    const auto trace = parse_csv_trace(csv(std::string(good) + line));
    ASSERT_FALSE(trace.ok()) << line;
    EXPECT_EQ(trace.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(trace.status().message(), HasSubstr("line 3")) << line;
    EXPECT_THAT(trace.status().message(), HasSubstr(what)) << line;
  }
}

TEST(CsvTrace, WantsItsHeaderAndARequest) {
  EXPECT_FALSE(parse_csv_trace("2023-11-16 18:17:03.97,10,10\n").ok());
  EXPECT_FALSE(parse_csv_trace(kHeader).ok());
  EXPECT_FALSE(parse_csv_trace("").ok());
}

TEST(CsvTrace, SortsSmallDisorderAndRefusesLarge) {
  const auto small = parse_csv_trace(
      csv("2023-11-16 18:17:03.9,1,1\n2023-11-16 18:17:03.5,2,1\n2023-11-16 18:17:04.0,3,1\n"));
  ASSERT_TRUE(small.ok());
  EXPECT_EQ(small->front().prompt_tokens, 2);
  EXPECT_FALSE(parse_csv_trace(csv("2023-11-16 18:17:09.0,1,1\n2023-11-16 18:17:03.5,2,1\n")).ok());
}

TEST(JsonlTrace, ReadsBlocksOfSharedPrefixes) {
  const auto trace = parse_jsonl_trace(
      R"({"timestamp": 1000, "input_length": 700, "output_length": 5, "hash_ids": [46, 47]})"
      "\n"
      R"({"timestamp": 3500, "input_length": 20, "output_length": 1})"
      "\n");
  ASSERT_TRUE(trace.ok()) << trace.status().to_string();
  EXPECT_THAT((*trace)[0].blocks, testing::ElementsAre(46U, 47U));
  EXPECT_NEAR((*trace)[1].at_seconds, 2.5, 1e-9);
  EXPECT_TRUE((*trace)[1].blocks.empty());
}

TEST(JsonlTrace, NamesTheLineOfAFault) {
  const std::pair<const char*, const char*> cases[] = {
      {"[1]", "object"},
      {R"({"input_length": 7, "output_length": 5})", "timestamp"},
      {R"({"timestamp": 0, "input_length": "7", "output_length": 5})", "input_length"},
      {R"({"timestamp": 0, "input_length": 7})", "output_length"},
      {R"({"timestamp": 0, "input_length": 7, "output_length": 5, "hash_ids": 3})", "hash_ids"},
      {R"({"timestamp": 0, "input_length": 7, "output_length": 5, "hash_ids": ["a"]})", "hash_ids"},
      {R"({"timestamp": 0, )", "object"},
  };
  for (const auto& [line, what] : cases) {
    const auto trace = parse_jsonl_trace(line);
    ASSERT_FALSE(trace.ok()) << line;
    EXPECT_THAT(trace.status().message(), HasSubstr("line 1")) << line;
    EXPECT_THAT(trace.status().message(), HasSubstr(what)) << line;
  }
}

TEST(ReadTrace, SaysWhichFileIsMissing) {
  const auto trace = read_trace("/nonexistent/trace.csv");
  ASSERT_FALSE(trace.ok());
  EXPECT_THAT(trace.status().message(), HasSubstr("/nonexistent/trace.csv"));
}

}  // namespace
}  // namespace latentd::loadtest
