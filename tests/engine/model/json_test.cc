#include "engine/model/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tests/engine/model/checkpoint_files.h"

namespace latentd {
namespace {

using testing::HasSubstr;

std::string nested(int depth) {
  return std::string(static_cast<std::size_t>(depth), '[') +
         std::string(static_cast<std::size_t>(depth), ']');
}

TEST(Json, ReadsEveryKindOfValue) {
  const auto json = parse_json(
      R"({"a": [1, -2, 2.5, 18446744073709551615], "b": {"c": {"d": null}, "e": [true, [], {}]},
          "f": "\u00e9\n", "": false})");
  ASSERT_TRUE(json.ok()) << json.status().to_string();
  EXPECT_EQ((*json)["a"][1], -2);
  EXPECT_EQ((*json)["a"][2], 2.5);
  EXPECT_EQ((*json)["a"][3].get<std::uint64_t>(), UINT64_MAX);
  EXPECT_TRUE((*json)["b"]["c"]["d"].is_null());
  EXPECT_EQ((*json)["b"]["e"].size(), 3U);
  EXPECT_EQ((*json)["f"], "é\n");
  EXPECT_EQ((*json)[""], false);
}

TEST(Json, AgreesWithTheLibrarysOwnParserOnNestedDocuments) {
  const std::string text =
      R"([[{"x":[1,[2,[3]],{"y":[{}]}]},[[]],"z"],{"k":{"l":[{"m":1},{"n":[2]}]},"o":3},4])";
  const auto json = parse_json(text);
  ASSERT_TRUE(json.ok());
  EXPECT_EQ(*json, Json::parse(text));
}

TEST(Json, RefusesDuplicateKeysAtAnyLevel) {
  for (const char* text : {R"({"a":1,"a":1})", R"([{"b":{"a":1,"c":2,"a":3}}])"}) {
    const auto json = parse_json(text);
    EXPECT_EQ(json.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(json.status().message(), HasSubstr("duplicate key \"a\""));
  }
  EXPECT_TRUE(parse_json(R"([{"a":1},{"a":1}])").ok());
}

TEST(Json, RefusesDeepNesting) {
  EXPECT_TRUE(parse_json(nested(64)).ok());
  const auto json = parse_json(nested(65));
  EXPECT_EQ(json.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(json.status().message(), HasSubstr("64 levels"));
  EXPECT_FALSE(parse_json(std::string(1'000'000, '[')).ok());
}

TEST(Json, RefusesLargeTexts) {
  EXPECT_TRUE(parse_json("[1,2]", {.max_bytes = 5}).ok());
  EXPECT_EQ(parse_json("[1,2] ", {.max_bytes = 5}).status().code(), StatusCode::kResourceExhausted);
}

TEST(Json, RefusesWhatIsNotJson) {
  for (const char* text : {"", " ", "{", "[1,]", "{\"a\":1,}", "nul", "01", "\"\xff\"", "[1] x",
                           "// c\n1", "\"\n\"", "1e999", "{1:2}", "'a'", "[NaN]", "\"\\ud800\""}) {
    const auto json = parse_json(text);
    EXPECT_EQ(json.status().code(), StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(json.status().message(), HasSubstr("malformed JSON")) << text;
  }
}

TEST(Json, NamesTheFileAtFault) {
  const test::TempDirectory directory;
  const auto path = directory.write("x.json", "{");
  EXPECT_THAT(parse_json_file(path).status().message(), HasSubstr("x.json: malformed JSON"));
  EXPECT_EQ(parse_json_file(directory.path() / "y.json").status().code(), StatusCode::kNotFound);
  EXPECT_THAT(parse_json_file(path, {.max_bytes = 0}).status().message(), HasSubstr("x.json"));
}

}  // namespace
}  // namespace latentd
