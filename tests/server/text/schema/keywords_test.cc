// Every keyword: texts that it admits, texts that it does not, schemas that are refused.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/text/schema/schema_harness.h"

namespace latentd::testing {
namespace {

using ::testing::HasSubstr;

struct Case {
  const char* schema;
  std::vector<const char*> good;
  std::vector<const char*> bad;
};

void check(const Case& c) {
  for (unsigned seed = 1; seed <= 3; ++seed) {
    for (const char* text : c.good) EXPECT_TRUE(admits(c.schema, text, seed)) << c.schema << text;
    for (const char* text : c.bad) EXPECT_FALSE(admits(c.schema, text, seed)) << c.schema << text;
  }
}

TEST(SchemaKeywords, TypeNamesOneOrMore) {
  check({R"({"type": "null"})", {"null"}, {"0", "nul", "\"\"", ""}});
  check({R"({"type": "boolean"})", {"true", "false"}, {"True", "1"}});
  check({R"({"type": ["string", "null"]})", {"null", "\"\"", "\"a\""}, {"1", "[]"}});
  check({R"({"type": ["integer", "array"]})", {"12", "[]", "[{\"a\":[1]}]"}, {"1.5", "{}"}});
  check({R"({"type": "string", "nullable": true})", {"null", "\"a\""}, {"1"}});
  check({"true", {"null", "[1,\"a\",{\"b\":false}]", "-1.5e10"}, {"nul", "[1", "01", "{1:2}"}});
}

TEST(SchemaKeywords, NumbersKeepTheirBounds) {
  check({R"({"type": "integer"})",
         {"0", "-1", "123", "-990"},
         {"-0", "01", "1.0", "1e2", "-", "+1"}});
  check({R"({"type": "number"})",
         {"0", "-0", "-0.5", "1.25", "1e5", "2E-10", "12.5e+1"},
         {"1.", ".5", "1e", "00", "1e123"}});
  check({R"({"type": "integer", "minimum": -3, "maximum": 120})",
         {"-3", "-1", "0", "9", "99", "120"},
         {"-4", "-30", "121", "1000", "200"}});
  check({R"({"type": "integer", "exclusiveMinimum": 9, "exclusiveMaximum": 100})",
         {"10", "99"},
         {"9", "100", "0", "-10", "1000"}});
  check({R"({"type": "integer", "minimum": 1.5})", {"2", "10", "1000"}, {"1", "0", "-2"}});
  check({R"({"type": "integer", "maximum": -10})", {"-10", "-11", "-999"}, {"-9", "0", "10"}});
  check({R"({"type": "number", "minimum": 0, "maximum": 1})",
         {"0", "1", "0.5", "0.0001", "1.0", "1.000"},
         {"1.1", "-0.1", "2", "1.0001", "5e-1"}});
  check({R"({"type": "number", "exclusiveMinimum": 0, "maximum": 2.5})",
         {"0.1", "2.5", "2.50", "2.49999", "1"},
         {"0", "0.0", "-1", "2.51", "3", "10"}});
  check({R"({"type": "number", "minimum": -1.5, "exclusiveMaximum": 1e2})",
         {"-1.5", "-0.0", "-1", "99.9"},
         {"-1.51", "-2", "100", "100.0"}});
  check({R"({"type": "number", "minimum": 1, "exclusiveMinimum": 1})", {"1.1", "2"}, {"1", "1.0"}});
}

TEST(SchemaKeywords, StringsAreWellFormedText) {
  check({R"({"type": "string"})",
         {R"("")", R"("abc")", R"("é日本😀")", R"("\n\"\\\/")", R"("\u00e9\uD83D\uDE00")"},
         {"\"\n\"", "\"\x01\"", R"("\x")", R"("\u12")", R"("\uD83D")", R"("\uDE00")",
          R"("\uD83Dab")", "\"\xC0\x80\"", "\"\xED\xA0\x80\"", "\"\xF5\"", "\"\x80\"", "\"abc"}});
}

TEST(SchemaKeywords, StringLengthsCountCharacters) {
  check({R"({"type": "string", "minLength": 2, "maxLength": 3})",
         {R"("ab")", R"("日本é")", R"("😀\uD83D\uDE00")", R"("\n\n\n")"},
         {R"("")", R"("a")", R"("abcd")", R"("😀")", R"("\uD83D\uDE00")", R"("日本éé")"}});
  check({R"({"type": "string", "maxLength": 0})", {R"("")"}, {R"("a")"}});
  check({R"({"type": "string", "maxLength": 1000000000})", {R"("aaaaaaaaab")"}, {}});
}

TEST(SchemaKeywords, PatternsAreFoundAnywhereUnlessAnchored) {
  check({R"({"pattern": "^a+b?$"})", {R"("a")", R"("aaab")"}, {R"("b")", R"("abb")", R"("")"}});
  check({R"({"pattern": "bc"})", {R"("bc")", R"("abcb")", R"("é\nbc")"}, {R"("b")", R"("cb")"}});
  check({R"({"pattern": "^(foo|ba[rz])\\.\\d{2,3}$"})",
         {R"("foo.12")", R"("baz.123")"},
         {R"("foo.1")", R"("bax.12")", R"("foo12")"}});
  check({R"({"pattern": "^[^a-y\"\\\\]$"})",
         {R"("z")", R"("é")", R"("😀")", R"("\n")", R"("\u0001")"},
         {R"("a")", R"("\"")", R"("\\")", R"("zz")"}});
  check({R"({"pattern": "^x|y$"})", {R"("xa")", R"("ay")"}, {R"("ax")", R"("ya")"}});
  check({R"({"pattern": "^\\w+\\s.$"})", {R"("a_1 é")"}, {R"("é a")", R"("a b\n")"}});
  check({R"({"pattern": "^[ab]*$", "minLength": 2, "maxLength": 3})",
         {R"("ab")", R"("aaa")"},
         {R"("a")", R"("abab")"}});
  check({R"({"pattern": "^[\u4e00-\u9fff]{2}$"})", {R"("日本")"}, {R"("日")", R"("日a")"}});
}

TEST(SchemaKeywords, FormatsAreExact) {
  check({R"({"format": "date"})",
         {R"("2024-02-29")", R"("1999-12-31")"},
         {R"("2023-02-29")", R"("2024-13-01")", R"("2024-04-31")", R"("2024-1-1")"}});
  check({R"({"format": "time"})", {R"("23:59:59Z")", R"("00:00:00.5+01:30")"}, {R"("24:00:00Z")"}});
  check(
      {R"({"format": "date-time"})", {R"("2024-01-31T10:00:00Z")"}, {R"("2024-01-31 10:00:00Z")"}});
  check({R"({"format": "uuid"})",
         {R"("123e4567-e89b-12d3-A456-426614174000")"},
         {R"("123e4567e89b12d3a456426614174000")"}});
  check({R"({"format": "email"})", {R"("a.b+c@ex-ample.org")"}, {R"("a@b")", R"("a@@b.c")"}});
  check({R"({"format": "ipv4"})",
         {R"("255.0.10.99")"},
         {R"("256.1.1.1")", R"("1.1.1")", R"("01.1.1.1")"}});
  check({R"({"format": "ipv6"})",
         {R"("2001:db8:0:0:0:0:0:1")"},
         {R"("::1")", R"("g:0:0:0:0:0:0:1")"}});
  check({R"({"format": "hostname"})", {R"("a-b.example")"}, {R"("-a.b")", R"("a..b")"}});
  check({R"({"format": "uri"})",
         {R"("https://ex.org:80/a/b%20c?q=1#f")", R"("http://a")"},
         {R"("ex.org")", R"("http://a b")", R"("http://a/%2")"}});
  check({R"({"format": "duration"})",
         {R"("P1DT2H30M")", R"("PT5S")", R"("P2W")"},
         {R"("P")", R"("PT")"}});
}

TEST(SchemaKeywords, EnumAndConstAreSpelledOneWay) {
  check({R"({"enum": ["a", "ab", 1, 12, null, {"k": [1, 2]}, "q\"é"]})",
         {R"("a")", R"("ab")", "1", "12", "null", R"({"k":[1,2]})", R"("q\"é")"},
         {R"("abc")", "2", "123", R"({"k": [1,2]})", R"("\u0061")"}});
  check({R"({"const": "x", "type": "string"})", {R"("x")"}, {R"("y")"}});
  check({R"({"enum": ["a", 1, null], "type": ["string", "null"]})", {R"("a")", "null"}, {"1"}});
  check({R"({"enum": ["a"], "nullable": true})", {R"("a")", "null"}, {"1"}});
}

TEST(SchemaKeywords, ArraysCountTheirItems) {
  check({R"({"type": "array", "items": {"type": "integer"}})",
         {"[]", "[1]", "[1, 2,3]", "[\n1\n]", "[ 1 ]"},
         {"[1,]", "[,1]", "[\"a\"]", "[1  ]", "[1 ,2]", "[1"}});
  check({R"({"items": {"enum": [1]}, "minItems": 2, "maxItems": 3})",
         {"[1,1]", "[1,1,1]"},
         {"[]", "[1]", "[1,1,1,1]", "[1,1,]"}});
  check({R"({"prefixItems": [{"type": "string"}, {"type": "null"}]})",
         {"[]", R"(["a"])", R"(["a",null])"},
         {R"(["a",null,1])", "[null]"}});
  check({R"({"prefixItems": [{"type": "string"}], "items": {"type": "null"}, "minItems": 1})",
         {R"(["a"])", R"(["a",null,null])"},
         {"[]", R"(["a","b"])"}});
  check({R"({"type": "array", "items": false})", {"[]", "[ ]"}, {"[1]"}});
  check({R"({"type": "array", "maxItems": 1, "uniqueItems": false})", {"[{\"a\":[]}]"}, {"[1,2]"}});
}

TEST(SchemaKeywords, ObjectsHaveTheirPropertiesInOrder) {
  const char* const schema = R"({"type": "object", "properties": {"a": {"type": "integer"},
      "ab": {"type": "string"}, "c": {"type": "null"}}, "required": ["ab"]})";
  check({schema,
         {R"({"ab":"x"})", R"({"a":1,"ab":"x"})", R"({"a": 1, "ab": "", "c": null})",
          "{\n\"ab\":\"\"\n}", R"({"ab":"x","c":null})"},
         {"{}", R"({"a":1})", R"({"ab":"x","a":1})", R"({"ab":"x","ab":"x"})", R"({"ab":1})",
          R"({"ab":"x",})", R"({"ab":"x","d":1})", R"({"a":1 ,"ab":"x"})", R"({"abc":1})"}});
  check({R"({"properties": {"a": true}})", {"{}", R"({"a":[{}]})"}, {R"({"b":1})", "[]"}});
  check({R"({"type": "object"})", {"{}", R"({"a":1,"b":{"c":[]}})", R"({"\u0061":1})"}, {"[]"}});
}

TEST(SchemaKeywords, OtherPropertiesAreNotTheDeclaredOnes) {
  check({R"({"properties": {"ab": {"type": "integer"}}, "additionalProperties": {"type": "null"}})",
         {R"({"ab":1,"x":null})", R"({"a":null})", R"({"abc":null,"":null})", R"({"é":null})"},
         {R"({"ab":null})", R"({"x":null,"ab":1})", R"({"ab":1,"ab":null})", R"({"\u0061b":null})",
          R"({"x":1})"}});
  check(
      {R"({"additionalProperties": {"type": "integer"}})", {R"({"a":1,"b":2})"}, {R"({"a":"b"})"}});
  check({R"({"type": "object", "additionalProperties": false})", {"{}"}, {R"({"a":1})"}});
  check({R"({"required": ["a"]})", {R"({"a":1})", R"({"a":1,"b":2})"}, {"{}"}});
  check({R"({"required": ["a"], "additionalProperties": {"type": "null"}})",
         {R"({"a":null})"},
         {R"({"a":1})", "{}"}});
}

TEST(SchemaKeywords, AnyOfTakesEachAlternative) {
  const char* const tagged = R"({"anyOf": [
      {"type": "object", "properties": {"kind": {"const": "a"}, "x": {"type": "integer"}},
       "required": ["kind", "x"]},
      {"type": "object", "properties": {"kind": {"const": "ab"}, "y": {"type": "string"}},
       "required": ["kind", "y"]}, {"type": "number"}, {"enum": [1, 12]}]})";
  check({tagged,
         {R"({"kind":"a","x":1})", R"({"kind":"ab","y":""})", "12", "1.5"},
         {R"({"kind":"a","y":""})", R"({"kind":"ab","x":1})", R"({"kind":"a"})"}});
  check({R"({"oneOf": [{"type": "string"}, {"type": "integer"}]})", {"1", "\"\""}, {"null"}});
  check({R"({"type": "object", "properties": {"a": {}, "b": {}},
             "anyOf": [{"required": ["a"]}, {"required": ["b"]}]})",
         {R"({"a":1})", R"({"b":1})", R"({"a":1,"b":1})"},
         {"{}"}});
}

TEST(SchemaKeywords, AllOfMakesOneSchema) {
  check({R"({"allOf": [{"properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"]},
             {"properties": {"b": {"type": "null"}, "a": {"maximum": 3}}}]})",
         {R"({"a":1})", R"({"a":3,"b":null})"},
         {"{}", R"({"b":null})", R"({"a":4})", R"({"a":0})"}});
  check({R"({"allOf": [{"type": ["string", "integer"]}, {"type": ["number", "null"]}]})",
         {"1"},
         {"\"\"", "1.5", "null"}});
  EXPECT_THAT(refusal(R"({"allOf": [{"additionalProperties": false}, {"properties": {"a": {}}}]})"),
              HasSubstr("additionalProperties"));
  EXPECT_THAT(refusal(R"({"allOf": [{"pattern": "a"}, {"pattern": "b"}]})"), HasSubstr("pattern"));
}

TEST(SchemaKeywords, ReferencesMayRecur) {
  check({R"({"$ref": "#/$defs/list", "$defs": {"list": {"anyOf": [{"type": "null"},
             {"properties": {"next": {"$ref": "#/$defs/list"}}, "required": ["next"]}]}}})",
         {"null", R"({"next":null})", R"({"next":{"next":null}})"},
         {"{}", R"({"next":{}})"}});
  check({R"({"type": "array", "items": {"$ref": "#"}})", {"[]", "[[],[[]]]"}, {"[1]"}});
  check({R"({"definitions": {"a/b~c": {"type": "null"}}, "$ref": "#/definitions/a~1b~0c"})",
         {"null"},
         {"1"}});
  check({R"({"$defs": {"s": {"type": "string"}}, "$ref": "#/$defs/s", "maxLength": 1,
             "description": "d"})",
         {R"("a")"},
         {R"("ab")"}});
  check({R"({"$defs": {"n": {"properties": {"next": {"allOf": [{"$ref": "#/$defs/n"}],
             "type": "object"}}}}, "$ref": "#/$defs/n"})",
         {"{}", R"({"next":{"next":{}}})"},
         {R"({"next":1})"}});
}

TEST(SchemaKeywords, AnnotationsAreIgnored) {
  check({R"({"$schema": "s", "$id": "i", "title": "t", "description": "d", "default": 1,
             "examples": [1], "$comment": "c", "deprecated": true, "x-order": 1, "type": "null"})",
         {"null"},
         {"1"}});
}

TEST(SchemaKeywords, UnknownOnesAreRefusedWithTheirPlace) {
  for (const char* keyword : {"not", "if", "patternProperties", "propertyNames", "contains",
                              "multipleOf", "minProperties", "dependentRequired", "$dynamicRef"}) {
    const std::string schema = std::string(R"({"properties": {"a/b": {")") + keyword + R"(": 1}}})";
    EXPECT_THAT(refusal(schema), HasSubstr(std::string("\"#/properties/a~1b/") + keyword));
  }
  EXPECT_THAT(refusal(R"({"items": {"format": "regex"}})"), HasSubstr("#/items/format"));
  EXPECT_THAT(refusal(R"({"uniqueItems": true})"), HasSubstr("#/uniqueItems"));
}

TEST(SchemaKeywords, MalformedSchemasAreRefused) {
  for (const char* schema : {"",
                             "{",
                             "1",
                             "[]",
                             R"({"type": "text"})",
                             R"({"type": 1})",
                             R"({"enum": 1})",
                             R"({"properties": []})",
                             R"({"required": "a"})",
                             R"({"anyOf": []})",
                             R"({"minLength": -1})",
                             R"({"minItems": 1.5})",
                             R"({"minimum": "1"})",
                             R"({"$ref": "#/x"})",
                             R"({"$ref": "http://x"})",
                             R"({"pattern": "("})",
                             R"({"pattern": "a{3,1}"})",
                             R"x({"pattern": "(?=a)"})x",
                             R"({"pattern": "\\1"})",
                             R"({"pattern": "a^b"})",
                             R"({"type": "null", "type": "null"})",
                             R"({"items": [{}]})",
                             R"({"prefixItems": {}})"}) {
    EXPECT_NE(refusal(schema), "") << schema;
  }
}

TEST(SchemaKeywords, SchemasThatNothingSatisfiesAreRefused) {
  for (
      const char* schema :
      {"false", R"({"$ref": "#"})", R"({"enum": []})",
       R"({"properties": {"a": false}, "required": ["a"]})",
       R"({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]})",
       R"({"minLength": 2, "maxLength": 1})", R"({"minItems": 2, "maxItems": 1})",
       R"({"minimum": 2, "maximum": 1})", R"({"type": "integer", "minimum": 1.1, "maximum": 1.9})",
       R"({"pattern": "^aa$", "maxLength": 1})", R"({"anyOf": [{"$ref": "#"}]})",
       R"({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"})",
       R"({"required": ["a"], "additionalProperties": false})"}) {
    EXPECT_NE(refusal(schema), "") << schema;
  }
}

}  // namespace
}  // namespace latentd::testing
