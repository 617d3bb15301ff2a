#include <gtest/gtest.h>

#include "tests/server/text/template/support.h"

namespace latentd {
namespace {

TEST(TemplateExpressions, PrintAsPythonDoes) {
  expect_texts(
      {{"{{ 1 }} {{ -2.0 }} {{ true }} {{ none }} {{ missing }}", "1 -2.0 True None "},
       {"{{ 1e22 }} {{ 1e16 }} {{ 123456789012345.0 }} {{ 1e-5 }} {{ 0.1 }}",
        "1e+22 1e+16 123456789012345.0 1e-05 0.1"},
       {"{{ [1, 'a', \"it's\", none, true, (2,), {'k': 'v'}] }}",
        "[1, 'a', \"it's\", None, True, (2,), {'k': 'v'}]"},
       {R"({{ ['tab\t', 'back\\', 'ü', '\x01', '\u00a0'] }})",
        R"(['tab\t', 'back\\', 'ü', '\x01', '\xa0'])"},
       {"{{ range(3) }} {{ object.keys() }}", "range(0, 3) dict_keys(['a', 'b', 'items'])"},
       {"{{ [missing] }}", "[Undefined]"}});
}

TEST(TemplateExpressions, ReadLiterals) {
  expect_texts(
      {{R"({{ 'a\n\x41\u00e9\'' "b" }})", "a\nAé'b"},
       {"{{ 1_000 }} {{ 2.5e3 }} {{ () }} {{ [1, 2,] }} {{ {} }}", "1000 2500.0 () [1, 2] {}"},
       {"{{ True and False }} {{ None is none }}", "False True"},
       {R"({{ '\q' }})", R"(\q)"}});
}

TEST(TemplateExpressions, DivideTowardsMinusInfinityAsPythonDoes) {
  expect_texts({{"{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }}", "3 -4 2 -2"},
                {"{{ 7 / 2 }} {{ 4 / 2 }} {{ -7.5 // 2 }} {{ -7.5 % 2 }}", "3.5 2.0 -4.0 0.5"},
                {"{{ 2 ** 10 }} {{ 2 ** -1 }} {{ 2 ** 3 ** 2 }}", "1024 0.5 64"},
                {"{{ 1 // 0 }}", "INVALID_ARGUMENT: line 1: division by zero"}});
}

TEST(TemplateExpressions, RefuseIntegersBeyond64Bits) {
  EXPECT_NE(render("{{ 9223372036854775807 + 1 }}").find("64 bits"), std::string::npos);
  EXPECT_NE(render("{{ 10 ** 30 }}").find("64 bits"), std::string::npos);
  EXPECT_EQ(render("{{ -9223372036854775807 - 1 }}"), "-9223372036854775808");
  EXPECT_NE(render("{{ (-9223372036854775807 - 1) // -1 }}").find("64 bits"), std::string::npos);
}

TEST(TemplateExpressions, AddAndRepeatTextAndLists) {
  expect_texts({{"{{ 'a' + 'b' }} {{ 'ab' * 3 }} {{ 2 * [1] }} {{ [1] + [2] }} {{ 'x' * -1 }}",
                 "ab ababab [1, 1] [1, 2] "},
                {"{{ 'a' ~ 1 ~ none ~ missing }}", "a1None"},
                {"{{ 'a' + 1 }}",
                 "INVALID_ARGUMENT: line 1: unsupported operand types for +: 'str' and 'int'"}});
}

TEST(TemplateExpressions, CompareInChainsAndMembership) {
  expect_texts(
      {{"{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 == true }}", "True False True"},
       {"{{ 'ell' in 'hello' }} {{ 2 not in [1] }} {{ 'a' in object }}", "True True True"},
       {"{{ [1, 2] < [1, 3] }} {{ (1,) == [1] }} {{ 'a' < 'b' }}", "True False True"},
       {"{{ 1 < 'a' }}", "INVALID_ARGUMENT: line 1: '<' is not supported between 'int' and 'str'"},
       {"{{ 1 in 'abc' }}",
        "INVALID_ARGUMENT: line 1: 'in <string>' needs a string on its left, not int"}});
}

TEST(TemplateExpressions, GiveBackOperandsFromAndAndOr) {
  expect_texts({{"{{ '' or 'b' }} {{ 'a' and 0 }} {{ not [] }} {{ missing or 'd' }}", "b 0 True d"},
                {"{{ 'yes' if flag else 'no' }} {{ 'yes' if nothing }}|", "yes |"},
                {"{{ false and missing.x }}", "False"}});
}

TEST(TemplateExpressions, SliceByCodePointsWithNegativeSteps) {
  expect_texts(
      {{"{{ text[0] }}{{ text[-1] }} {{ text[7:] }} {{ text[::-1] }}", "G界 世界 界世 ,eßürG"},
       {"{{ items[::-1] }} {{ items[-2:] }} {{ items[5:] }} {{ range(9)[1:8:3] }}",
        "[2, 1, 3] [1, 2] [] range(1, 8, 3)"},
       {"{{ items[1:none] }} {{ items[:-1] }}", "[1, 2] [3, 1]"},
       {"{{ items[::0] }}", "INVALID_ARGUMENT: line 1: a slice step cannot be zero"}});
}

TEST(TemplateExpressions, LookUpMethodsBeforeKeysWithDotsAndAfterThemWithBrackets) {
  expect_texts({{"{{ object['items'] }} {{ object.items() | list | length }}", "shadowed 3"},
                {"{{ object.a }} {{ object['b'][0] }} {{ object.b.0 }}", "1 x x"},
                {"{{ object['get'] is callable }}", "True"}});
}

TEST(TemplateExpressions, LetUndefinedPrintNothingButHaveNoAttributes) {
  expect_texts({{"{{ missing }}{{ object.gone }}{{ items[9] }}", ""},
                {"{{ missing | length }} {{ missing | list }} {{ missing == gone }}", "0 [] True"},
                {"{{ missing.a }}", "INVALID_ARGUMENT: line 1: 'missing' is undefined"},
                {"\n\n{{ object.gone.more }}",
                 "INVALID_ARGUMENT: line 3: 'dict object' has no attribute 'gone'"},
                {"{{ missing + 1 }}", "INVALID_ARGUMENT: line 1: 'missing' is undefined"}});
}

TEST(TemplateExpressions, BindFiltersTighterThanOperators) {
  expect_texts({{"{{ 'a' + 'b' | upper }} {{ ('a' + 'b') | upper }}", "aB AB"},
                {"{{ 1 + 2 | string | length }} {{ -1 | abs }}", "2 1"},
                {"{{ not 1 is none }} {{ 4 is divisibleby 2 and true }}", "True True"}});
}

TEST(TemplateExpressions, AnswerEveryTest) {
  expect_texts(
      {{"{{ 1 is integer }} {{ true is integer }} {{ true is number }} {{ 1.5 is float }}",
        "True False True True"},
       {"{{ 'a' is string }} {{ {} is mapping }} {{ [] is sequence }} {{ {} is sequence }}",
        "True True True True"},
       {"{{ none is iterable }} {{ missing is iterable }} {{ missing is not defined }}",
        "False True True"},
       {"{{ 3 is odd }} {{ 3 is even }} {{ 9 is divisibleby(3) }} {{ 'A' is upper }}",
        "True False True True"},
       {"{{ 1 is eq 1 }} {{ 1 is sameas 1 }} {{ 1 is in [1, 2] }} {{ true is true }}",
        "True True True True"},
       {"{{ 'upper' is filter }} {{ 'odd' is test }} {{ 'nope' is filter }}", "True True False"},
       {"{{ 1 is nonsense }}", "INVALID_ARGUMENT: line 1: there is no test 'nonsense'"}});
}

TEST(TemplateExpressions, CallWithStarsAndKeywords) {
  expect_texts({{"{% macro m(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}"
                 "{{ m(*[1]) }} {{ m(1, b=5) }} {{ m(**{'a': 8}) }}",
                 "1-2 1-5 8-2"},
                {"{{ dict(a=1, **{'b': 2}) }}", "{'a': 1, 'b': 2}"}});
}

TEST(TemplateExpressions, ReportWhereTheyDoNotParse) {
  expect_texts({{"a\n{{ 1 + }}", "INVALID_ARGUMENT: line 2: expected an expression, found '}}'"},
                {"{{ (1 }}", "INVALID_ARGUMENT: line 1: unexpected '}'"},
                {"{{ 'a }}", "INVALID_ARGUMENT: line 1: this string does not end"},
                {"{{ a ? b }}", "INVALID_ARGUMENT: line 1: unexpected '?'"},
                {"{{ é }}", "INVALID_ARGUMENT: line 1: unexpected 'é'"},
                {"{{ 1", "INVALID_ARGUMENT: line 1: the template ends inside a tag"},
                {"{{ x is defined is none }}",
                 "INVALID_ARGUMENT: line 1: tests cannot be chained with 'is'"},
                {R"({{ '\ud83d' }})",
                 "INVALID_ARGUMENT: line 1: a string has an escape that is no character: d83d"}});
}

}  // namespace
}  // namespace latentd
