#include <gtest/gtest.h>

#include "tests/server/text/template/support.h"

namespace latentd {
namespace {

TEST(TemplateFilters, ChangeLetterCase) {
  expect_texts(
      {{"{{ text | upper }} {{ text | lower }} {{ 'ß'.upper() }}", "GRÜSSE, 世界 grüße, 世界 SS"},
       {"{{ 'hello wORLD foo-bar' | title }} {{ 'hELLO x' | capitalize }}",
        "Hello World Foo-Bar Hello x"},
       {"{{ \"they're\".title() }} {{ 'aB'.swapcase() }}", "They'Re Ab"}});
}

TEST(TemplateFilters, StripSplitAndJoin) {
  expect_texts(
      {{"[{{ ' a ' | trim }}] [{{ 'xxaxx'.strip('x') }}] [{{ ' a '.rstrip() }}]", "[a] [a] [ a]"},
       {"{{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }}", "['a', 'b', '', 'c'] ['a', 'b']"},
       {"{{ 'a b c'.split(' ', 1) }} {{ 'a b c'.rsplit(' ', 1) }}", "['a', 'b c'] ['a b', 'c']"},
       {"{{ [1, none, 'x'] | join('-') }} {{ '-'.join(['a', 'b']) }}", "1-None-x a-b"},
       {"{{ 'a\\r\\nb\\n'.splitlines() }} {{ 'k=v=w'.partition('=') }}",
        "['a', 'b'] ('k', '=', 'v=w')"},
       {"{{ '-'.join([1]) }}", "INVALID_ARGUMENT: line 1: join() needs a string, not int"}});
}

TEST(TemplateFilters, SearchAndReplaceText) {
  expect_texts(
      {{"{{ text.find('世') }} {{ 'abcb'.rfind('b') }} {{ 'aaa'.count('a') }} {{ 'a'.find('z') }}",
        "7 3 3 -1"},
       {"{{ 'abc'.startswith(('x', 'a')) }} {{ 'abc'.endswith('bc') }}", "True True"},
       {"{{ 'aXbX' | replace('X', '-') }} {{ 'aXbX'.replace('X', '', 1) }} {{ 'ab'.replace('', "
        "'.') }}",
        "a-b- abX .a.b."},
       {"{{ 'foobar'.removeprefix('foo') }} {{ 'foobar'.removesuffix('bar') }}", "bar foo"},
       {"{{ '12'.isdigit() }} {{ 'ab1'.isalnum() }} {{ ''.isdigit() }} {{ 'A1'.isupper() }}",
        "True True False True"},
       {"{{ '7'.zfill(3) }} {{ '-7'.zfill(4) }} {{ 'a'.ljust(3, '.') }} {{ 'ab'.center(5, '*') }}",
        "007 -007 a.. **ab*"}});
}

TEST(TemplateFilters, IndentLines) {
  expect_texts({{"{{ 'a\\nb\\n\\nc' | indent }}", "a\n    b\n\n    c"},
                {"{{ 'a\\nb' | indent(2, true) }}|{{ 'a\\n\\nb' | indent('>', blank=true) }}",
                 "  a\n  b|a\n>\n>b"}});
}

TEST(TemplateFilters, WriteJsonAsPythonDoes) {
  expect_texts(
      {{"{{ object | tojson }}", R"({"a": 1, "b": ["x", null], "items": "shadowed"})"},
       {"{{ {'b': 1, 'a': [1.0, true]} | tojson(sort_keys=true, separators=(',', ':')) }}",
        R"({"a":[1.0,true],"b":1})"},
       {"{{ text | tojson }} {{ text | tojson(ensure_ascii=true) }}",
        R"("Grüße, 世界" "Gr\u00fc\u00dfe, \u4e16\u754c")"},
       {"{{ {'a': [1], 'b': {}} | tojson(indent=2) }}",
        "{\n  \"a\": [\n    1\n  ],\n  \"b\": {}\n}"},
       {R"({{ 'quote " \\ \n\t\x01</' | tojson }})", R"("quote \" \\ \n\t\u0001</")"},
       {"{{ {1: 2, true: 3, none: 4, 1.5: 5} | tojson }}", R"({"1": 3, "null": 4, "1.5": 5})"},
       {"{{ missing | tojson }}",
        "INVALID_ARGUMENT: line 1: Object of type Undefined is not JSON serializable"}});
}

TEST(TemplateFilters, ConvertNumbers) {
  expect_texts(
      {{"{{ '42' | int }} {{ ' 4.9' | int }} {{ 'x' | int }} {{ 'x' | int(5) }} {{ 3.9 | int }}",
        "42 4 0 5 3"},
       {"{{ '1e3' | float }} {{ 'x' | float }} {{ 'ff' | int(base=16) }}", "1000.0 0.0 255"},
       {"{{ 2.5 | round }} {{ 3.5 | round }} {{ 2.345 | round(2) }} {{ 2.1 | round(0, 'ceil') }}",
        "2.0 4.0 2.35 3.0"},
       {"{{ -3 | abs }} {{ 7 | string + '!' }} {{ 5 | round }}", "3 7! 5"}});
}

TEST(TemplateFilters, TakeSequencesApart) {
  expect_texts(
      {{"{{ items | first }} {{ items | last }} {{ [] | first }}| {{ text | last }}", "3 2 | 界"},
       {"{{ items | sort }} {{ items | sort(reverse=true) }} {{ ['b', 'A'] | sort }}",
        "[1, 2, 3] [3, 2, 1] ['A', 'b']"},
       {"{{ items | reverse | list }} {{ 'abc' | reverse }} {{ items | length }}",
        "[2, 1, 3] cba 3"},
       {"{{ ['a', 'A', 1, true, (2,)] | unique | list }}", "['a', 1, (2,)]"},
       {"{{ items | min }} {{ items | max }} {{ items | sum }} {{ items | batch(2) | list }}",
        "1 3 6 [[3, 1], [2]]"},
       {"{{ object | items | list | length }} {{ {'b': 1, 'A': 2} | dictsort }}",
        "3 [('A', 2), ('b', 1)]"},
       {"{{ 'ab' | list }} {{ missing | default('d') }} {{ '' | default('e', true) }}",
        "['a', 'b'] d e"}});
}

TEST(TemplateFilters, MapAndSelect) {
  expect_texts(
      {{"{{ messages | map(attribute='role') | join(',') }} {{ ['a'] | map('upper') | list }}",
        "user,assistant ['A']"},
       {"{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | first }}",
        "Hi there"},
       {"{{ messages | rejectattr('role', 'eq', 'user') | list | length }}", "1"},
       {"{{ [1, 2, 3] | select('odd') | list }} {{ [0, 1] | reject | list }}", "[1, 3] [0]"},
       {"{{ messages | map(attribute='gone', default='-') | join }}", "--"},
       {"{{ [1] | map('nope') | list }}", "INVALID_ARGUMENT: line 1: there is no filter 'nope'"},
       {"{{ 1 | nope }}", "INVALID_ARGUMENT: line 1: there is no filter 'nope'"}});
}

TEST(TemplateFilters, GiveIteratorsThatCanBeWalkedOnce) {
  expect_texts(
      {{"{% set m = items | map('string') %}{{ m | list }}{{ m | list }}", "['3', '1', '2'][]"},
       {"{{ items | map('string') | length }}",
        "INVALID_ARGUMENT: line 1: object of type 'generator' has no length"}});
}

TEST(TemplateFilters, RefuseMethodsThatChangeTheirObject) {
  expect_texts(
      {{"{{ items.append(1) }}",
        "INVALID_ARGUMENT: line 1: access to attribute 'append' of 'list' object is unsafe"},
       {"{{ object.update({}) }}",
        "INVALID_ARGUMENT: line 1: access to attribute 'update' of 'dict' object is unsafe"}});
}

TEST(TemplateFilters, NameTheArgumentAtFault) {
  expect_texts(
      {{"{{ 'a' | replace('b') }}", "INVALID_ARGUMENT: line 1: replace needs the argument 'new'"},
       {"{{ 'a' | trim(x=1) }}", "INVALID_ARGUMENT: line 1: trim has no argument 'x'"},
       {"{{ object.get() }}", "INVALID_ARGUMENT: line 1: get needs the argument 'key'"}});
}

}  // namespace
}  // namespace latentd
