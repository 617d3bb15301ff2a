#include <gtest/gtest.h>

#include "tests/server/text/template/support.h"

namespace latentd {
namespace {

TEST(TemplateStatements, TrimOneNewlineAfterTagsAndSpacesBeforeThem) {
  expect_texts({{"a\n  {% if true %}\n  b\n  {% endif %}\nc", "a\n  b\nc"},
                {"a\n  {{ 1 }}\n  b", "a\n  1\n  b"},
                {"a  {% if true %}  b{% endif %}", "a    b"},
                {"a\n  {#- note -#}\n  b", "ab"},
                {"a\n  {# note #}\nb", "a\nb"},
                {"a\n  {%+ if true +%}\nb{% endif %}", "a\n  \nb"},
                {"a \n {%- if true -%} \n b{% endif %}", "ab"},
                {"a {{- ' b ' -}} c", "a b c"}});
}

TEST(TemplateStatements, DropOneNewlineAtTheEndAndReadEveryLineEnd) {
  expect_texts({{"a\n", "a"}, {"a\n\n", "a\n"}, {"a\r\nb\rc", "a\nb\nc"}});
}

TEST(TemplateStatements, LeaveRawBlocksAlone) {
  expect_texts({{"{% raw %}{{ x }}{% if %}{% endraw %}!", "{{ x }}{% if %}!"},
                {"a {%- raw -%} {{ }} {%- endraw -%} b", "a{{ }}b"},
                {"{% raw %}", "INVALID_ARGUMENT: line 1: this raw block does not end"}});
}

TEST(TemplateStatements, ChooseTheFirstBranchThatHolds) {
  expect_texts({{"{% if nothing %}a{% elif number > 5 %}b{% else %}c{% endif %}", "b"},
                {"{% if missing %}a{% else %}c{% endif %}", "c"},
                {"{% if a %}",
                 "INVALID_ARGUMENT: line 1: expected {% endif %}, found the end of "
                 "the template"}});
}

TEST(TemplateStatements, TellLoopsWhereTheyAre) {
  expect_texts(
      {{"{% for i in items %}{{ loop.index }}/{{ loop.length }}:{{ i }}"
        "{{ ',' if not loop.last }}{% endfor %}",
        "1/3:3,2/3:1,3/3:2"},
       {"{% for i in items %}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}"
        "{{ loop.first }}{{ loop.cycle('a', 'b') }} {% endfor %}",
        "032Truea 121Falseb 210Falsea "},
       {"{% for i in items %}[{{ loop.previtem }}<{{ i }}<{{ loop.nextitem }}]{% endfor %}",
        "[<3<1][3<1<2][1<2<]"}});
}

TEST(TemplateStatements, LoopOverPairsKeysTextAndNothing) {
  expect_texts(
      {{"{% for k, v in object.items() %}{{ k }}={{ v }};{% endfor %}",
        "a=1;b=['x', None];items=shadowed;"},
       {"{% for k in object %}{{ k }}{% endfor %}", "abitems"},
       {"{% for c in 'aé' %}{{ c }}.{% endfor %}", "a.é."},
       {"{% for x in missing %}x{% else %}none{% endfor %}", "none"},
       {"{% for x in 5 %}{% endfor %}", "INVALID_ARGUMENT: line 1: 'int' object is not iterable"},
       {"{% for a, b in [[1]] %}{% endfor %}",
        "INVALID_ARGUMENT: line 1: expected 2 values to unpack, got 1"}});
}

TEST(TemplateStatements, FilterWhatTheyLoopOver) {
  expect_texts({{"{% for i in items if i > 1 %}{{ loop.index }}:{{ i }} {% endfor %}", "1:3 2:2 "},
                {"{% for i in items if i > 9 %}x{% else %}none{% endfor %}", "none"},
                {"{% set ns = namespace(n=0) %}{% for i in items if ns.n < 2 %}"
                 "{% set ns.n = ns.n + 1 %}{{ i }}{% endfor %}",
                 "31"}});
}

TEST(TemplateStatements, LeaveLoopsEarly) {
  expect_texts(
      {{"{% for i in items %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% endfor %}", "3"},
       {"{% for i in items %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "32"},
       {"{% break %}", "INVALID_ARGUMENT: line 1: 'break' outside of a loop"},
       {"{% for i in items %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}",
        "INVALID_ARGUMENT: line 1: 'break' outside of a loop"}});
}

TEST(TemplateStatements, KeepWhatLoopsSetInsideThem) {
  expect_texts(
      {{"{% set x = 1 %}{% for i in items %}{{ x }}{% set x = x + 1 %}{% endfor %}{{ x }}", "1111"},
       {"{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}", "2"},
       {"{% set ns = namespace(x=1) %}{% for i in items %}{% set ns.x = ns.x + i %}"
        "{% endfor %}{{ ns.x }}",
        "7"}});
}

TEST(TemplateStatements, SetNamesTuplesAndBlocks) {
  expect_texts({{"{% set a, b = 1, 2 %}{{ a }}{{ b }}", "12"},
                {"{% set x %} hi {{ number }} {% endset %}[{{ x }}]", "[ hi 7 ]"},
                {"{% set x | trim | upper %} hi {% endset %}[{{ x }}]", "[HI]"},
                {"{% set object.a = 1 %}",
                 "INVALID_ARGUMENT: line 1: cannot assign to an attribute "
                 "of what is no namespace"},
                {"{% set true = 1 %}", "INVALID_ARGUMENT: line 1: cannot assign to 'true'"}});
}

TEST(TemplateStatements, CallMacrosWithDefaultsAndTheirClosure) {
  expect_texts(
      {{"{% macro m(a, b='x') %}[{{ a }}{{ b }}]{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(b=3) }}",
        "[1x][12][3]"},
       {"{% macro m() %}{{ later }}{% endmacro %}{% set later = 'l' %}{{ m() }}", "l"},
       {"{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
        "3210"},
       {"{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, a=2) }}", "(1,){'a': 2}"},
       {"{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}",
        "INVALID_ARGUMENT: line 1: macro 'm' takes at most 1 arguments, got 2"},
       {"{% macro m(a) %}{% endmacro %}{{ m(b=1) }}",
        "INVALID_ARGUMENT: line 1: macro 'm' takes no argument 'b'"}});
}

TEST(TemplateStatements, KeepMacrosOfLoopsAliveWithTheirScope) {
  expect_texts(
      {{"{% set ns = namespace() %}{% for i in items %}{% macro m() %}{{ i }}{% endmacro %}"
        "{% if loop.first %}{% set ns.m = m %}{% endif %}{% endfor %}{{ ns.m() }}",
        "3"},
       {"{% set ns = namespace() %}{% set ns.self = ns %}{{ ns.self.self is defined }}", "True"}});
}

TEST(TemplateStatements, PassCallBlocksToMacros) {
  expect_texts({{"{% macro box() %}<{{ caller() }}>{% endmacro %}"
                 "{% call box() %}in {{ number }}{% endcall %}",
                 "<in 7>"},
                {"{% macro each(xs) %}{% for x in xs %}{{ caller(x) }}{% endfor %}{% endmacro %}"
                 "{% call(y) each(items) %}({{ y }}){% endcall %}",
                 "(3)(1)(2)"}});
}

TEST(TemplateStatements, RunWithFilterAndGenerationBlocks) {
  expect_texts({{"{% with a = 1, b = number %}{{ a }}{{ b }}{% endwith %}{{ a }}", "17"},
                {"{% filter upper %}a{{ 'b' }}{% endfilter %}", "AB"},
                {"{% generation %}{{ number }}{% set z = 1 %}{% endgeneration %}{{ z }}", "7"},
                {"{% print 1, 'a' %}", "1a"}});
}

TEST(TemplateStatements, RefuseWhatNeedsOtherFiles) {
  expect_texts({{"{% include 'x' %}", "INVALID_ARGUMENT: line 1: 'include' is not supported"},
                {"\n{% import 'x' as y %}", "INVALID_ARGUMENT: line 2: 'import' is not supported"},
                {"{% extends 'x' %}", "INVALID_ARGUMENT: line 1: 'extends' is not supported"},
                {"{% for x in y recursive %}{% endfor %}",
                 "INVALID_ARGUMENT: line 1: 'recursive' is not supported"},
                {"{% nonsense %}", "INVALID_ARGUMENT: line 1: unknown tag 'nonsense'"}});
}

TEST(TemplateStatements, TellTheTemplatesOwnErrorsInItsWords) {
  EXPECT_EQ(render("\n{{ raise_exception('Roles must alternate: ' ~ number) }}"),
            "INVALID_ARGUMENT: Roles must alternate: 7");
}

TEST(TemplateStatements, ShowTheCallersTime) {
  expect_texts({{"{{ strftime_now('%d %b %Y, %-d %B, %A %H:%M %I %p %j %y %%') }}",
                 "03 Feb 2026, 3 February, Tuesday 14:05 02 PM 034 26 %"},
                {"{{ strftime_now('%Q') }}",
                 "INVALID_ARGUMENT: line 1: the time format %Q is not supported"}});
  const Result<ChatTemplate> parsed = ChatTemplate::parse("{{ strftime_now('%Y') }}");
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->render(sample_context()).status().message(),
            "line 1: strftime_now() has no time to show");
}

}  // namespace
}  // namespace latentd
