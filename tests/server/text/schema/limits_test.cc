// Schemas made to cost: each is refused or compiled small, soon.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "server/text/schema/schema_tree.h"
#include "tests/server/text/schema/schema_harness.h"

namespace latentd::testing {
namespace {

using Clock = std::chrono::steady_clock;

std::string repeated(int count, const std::string& first, const std::string& more,
                     const std::string& last) {
  std::string out = first;
  for (int i = 0; i < count; ++i) {
    std::string part = more;
    for (std::size_t at = part.find('@'); at != std::string::npos; at = part.find('@')) {
      part.replace(at, 1, std::to_string(i));
    }
    for (std::size_t at = part.find('%'); at != std::string::npos; at = part.find('%')) {
      part.replace(at, 1, std::to_string(i + 1));
    }
    out += (i > 0 ? "," : "") + part;
  }
  return out + last;
}

// Compiles within two seconds even under sanitizers on a busy machine, and then makes ten masks.
void expect_cheap(const std::string& schema) {
  SCOPED_TRACE(schema.substr(0, 80));
  const auto begin = Clock::now();
  const auto program = SchemaProgram::compile(schema);
  if (program.ok()) {
    const auto constraint =
        make_json_constraint(*program, vocabulary().trie(), {vocabulary().eos()});
    for (int i = 0; i < 10 && !constraint->complete(); ++i) {
      const std::vector<TokenId> may = allowed(*constraint, vocabulary().num_words());
      ASSERT_FALSE(may.empty());
      ASSERT_TRUE(constraint->accept(may[may.size() / 2]));
    }
  } else {
    EXPECT_NE(program.status().message(), "");
  }
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(5));
}

TEST(SchemaLimits, LargeSchemasAreRefused) {
  const std::string spaces(kMaxSchemaBytes, ' ');
  EXPECT_EQ(SchemaProgram::compile(spaces + "{}").status().code(), StatusCode::kResourceExhausted);
  std::string deep;
  for (int i = 0; i < 100; ++i) deep += R"({"items":)";
  EXPECT_NE(refusal(deep + "{}" + std::string(100, '}')), "");
}

TEST(SchemaLimits, LargeEnumsAndObjectsAreCheap) {
  expect_cheap(repeated(8000, R"({"enum": [)", "\"v@\"", "]}"));
  expect_cheap(R"({"enum": [")" + std::string(60000, 'x') + R"("]})");
  expect_cheap(repeated(3000, R"({"properties": {)", R"("p@": {})", "}}"));
  expect_cheap(
      repeated(3000, R"({"properties": {)", R"("p@": {})", R"(}, "additionalProperties": {}})"));
}

TEST(SchemaLimits, ChainsAndCyclesOfReferencesAreCheap) {
  expect_cheap(repeated(1500, R"({"$ref": "#/$defs/d0", "$defs": {)",
                        R"("d@": {"$ref": "#/$defs/d%"})", R"(, "d1500": {"type": "null"}}})"));
  expect_cheap(repeated(1000, R"({"$ref": "#/$defs/d0", "$defs": {)",
                        R"("d@": {"$ref": "#/$defs/d%", "minLength": @})", R"(, "d1000": {}}})"));
  expect_cheap(R"({"$defs": {"a": {"$ref": "#/$defs/b", "minLength": 1},
      "b": {"$ref": "#/$defs/a", "maxLength": 3}}, "$ref": "#/$defs/a"})");
  expect_cheap(R"({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "string"}],
      "minLength": 1}}, "$ref": "#/$defs/a"})");
}

TEST(SchemaLimits, AlternativesThatMultiplyAreCheap) {
  expect_cheap(
      repeated(20, R"({"allOf": [)", R"({"anyOf": [{"minLength": @}, {"maxLength": 9%}]})", "]}"));
  expect_cheap(repeated(40, R"({"$ref": "#/$defs/d0", "$defs": {)",
                        R"("d@": {"anyOf": [{"items": {"$ref": "#/$defs/d%"}},
                            {"items": {"$ref": "#/$defs/d%"}, "minItems": 1}]})",
                        R"(, "d40": {"type": "null"}}})"));
  expect_cheap(repeated(2500, R"({"anyOf": [)", R"({"type": "array"})", "]}"));
  expect_cheap(repeated(300, R"({"anyOf": [)", R"({"items": {"$ref": "#"}, "minItems": @})", "]}"));
}

TEST(SchemaLimits, PatternsThatGrowAreCheap) {
  expect_cheap(R"({"pattern": "(a|b)*a(a|b){20}"})");
  expect_cheap(R"({"pattern": "((a{1,1000}){1,1000}){1,1000}"})");
  expect_cheap(R"({"pattern": "^(\\W\\w\\S)*$"})");
  expect_cheap(R"({"pattern": "(a*)*(b?)*$"})");
  expect_cheap(R"({"pattern": "^.*$", "maxLength": 1000000000})");
  expect_cheap(R"({"pattern": "^.*$", "maxLength": 3000})");
  expect_cheap(R"({"pattern": ")" + std::string(30, '(') + std::string(30, ')') + R"("})");
  expect_cheap(repeated(900, R"({"anyOf": [)", R"({"pattern": "^.{1,@}x"})", "]}"));
}

TEST(SchemaLimits, HugeCountsAreCheap) {
  expect_cheap(R"({"maxLength": 1000000000, "minLength": 1000000000})");
  expect_cheap(R"({"minItems": 1000000000})");
  expect_cheap(R"({"type": "integer", "minimum": 1e30, "maximum": 1e39})");
  EXPECT_NE(refusal(R"({"maximum": 1e300})"), "");
  EXPECT_NE(refusal(R"({"maximum": 1e-300})"), "");
}

}  // namespace
}  // namespace latentd::testing
