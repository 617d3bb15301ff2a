// Templates that mean harm end quickly with an error, and no bytes make the parser crash.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "tests/server/text/template/support.h"

namespace latentd {
namespace {

bool is_exhausted(const std::string& outcome) {
  return outcome.starts_with("RESOURCE_EXHAUSTED: ");
}

std::string repeat(std::string_view text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

TEST(HostileTemplate, EndsEndlessRecursion) {
  EXPECT_TRUE(is_exhausted(render("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}")));
  EXPECT_TRUE(is_exhausted(
      render("{% macro a(x=b()) %}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ b() }}")));
  EXPECT_TRUE(is_exhausted(
      render("{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}")));
}

TEST(HostileTemplate, EndsLongLoops) {
  EXPECT_TRUE(is_exhausted(render("{{ range(10**12) }}")));
  EXPECT_TRUE(
      is_exhausted(render("{% for a in range(99999) %}{% for b in range(99999) %}"
                          "{% endfor %}{% endfor %}")));
  EXPECT_TRUE(
      is_exhausted(render("{% for a in range(99999) %}{% for b in range(99999) %}x"
                          "{% endfor %}{% endfor %}")));
}

TEST(HostileTemplate, BoundsStringsAndOutput) {
  EXPECT_TRUE(is_exhausted(render("{{ 'a' * 10**9 }}")));
  EXPECT_TRUE(is_exhausted(render("{{ 'abc' * 9223372036854775807 }}")));
  EXPECT_TRUE(is_exhausted(render("{{ [1] * 9223372036854775807 }}")));
  EXPECT_TRUE(is_exhausted(render("{{ 'a'.ljust(9223372036854775807) }}")));
  EXPECT_TRUE(is_exhausted(render("{{ 'a' | center(9223372036854775807) }}")));
  EXPECT_TRUE(is_exhausted(render("{{ 'a' | indent(9223372036854775807) }}")));
  EXPECT_TRUE(is_exhausted(render("{{ [1] | tojson(indent=9223372036854775807) }}")));
  EXPECT_TRUE(is_exhausted(render("{{ [1] | batch(9223372036854775807, 0) | list }}")));
  EXPECT_TRUE(
      is_exhausted(render("{% set ns = namespace(s='ab') %}{% for i in range(99) %}"
                          "{% set ns.s = ns.s + ns.s %}{% endfor %}")));
  EXPECT_TRUE(
      is_exhausted(render("{% set ns = namespace(s='ab') %}{% for i in range(99) %}"
                          "{% set ns.s = ns.s.replace('a', ns.s) %}{% endfor %}")));
  TemplateLimits small;
  small.max_output_bytes = 10;
  EXPECT_EQ(render("0123456789", sample_context(), small), "0123456789");
  EXPECT_EQ(render("0123456789a", sample_context(), small),
            "RESOURCE_EXHAUSTED: line 1: the template exceeds the limit of 10 bytes of output");
}

TEST(HostileTemplate, BoundsNesting) {
  const std::string deep = "{{ " + repeat("(", 10000) + "1" + repeat(")", 10000) + " }}";
  EXPECT_TRUE(is_exhausted(render(deep)));
  EXPECT_TRUE(is_exhausted(render("{{ " + repeat("[", 10000) + repeat("]", 10000) + " }}")));
  EXPECT_TRUE(is_exhausted(render("{{ " + repeat("not ", 10000) + "1 }}")));
  EXPECT_TRUE(is_exhausted(render("{{ " + repeat("-", 10000) + "1 }}")));
  EXPECT_TRUE(is_exhausted(render("{{ 1" + repeat(" + 1", 10000) + " }}")));
  EXPECT_TRUE(is_exhausted(render("{{ a" + repeat(".a", 10000) + " }}")));
  EXPECT_TRUE(is_exhausted(render("{{ a" + repeat("|trim", 10000) + " }}")));
  EXPECT_TRUE(is_exhausted(render("{{ 1" + repeat(" if 1 else 1", 10000) + " }}")));
  EXPECT_TRUE(is_exhausted(render(repeat("{% if 1 %}", 10000))));
  EXPECT_TRUE(
      is_exhausted(render("{% set " + repeat("(", 10000) + "a" + repeat(")", 10000) + " = 1 %}")));
  EXPECT_TRUE(is_exhausted(render("{{ ['a'] | map(" + repeat("'map',", 5000) + "'upper') }}")));
  EXPECT_TRUE(
      is_exhausted(render("{% set ns = namespace(x=1) %}{% for i in range(9999) %}"
                          "{% set ns.x = [ns.x] %}{% endfor %}")));
  EXPECT_TRUE(
      is_exhausted(render("{% set ns = namespace(x={}) %}{% for i in range(9999) %}"
                          "{% set ns.x = {'a': ns.x} %}{% endfor %}")));
  EXPECT_EQ(render("{{ 1" + repeat(" ~ 1", 1000) + " }}"), repeat("1", 1001));
}

TEST(HostileTemplate, PrintsNamespacesThatHoldThemselvesAsAnError) {
  EXPECT_EQ(render("{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}"),
            "INVALID_ARGUMENT: line 1: a value contains itself");
}

TEST(HostileTemplate, ReachesNothingOfTheInterpreter) {
  EXPECT_EQ(render("{{ ''.__class__ }}"), "");
  EXPECT_EQ(render("{{ ''.__class__.__mro__ }}"),
            "INVALID_ARGUMENT: line 1: access to attribute '__class__' of 'str' object is unsafe");
  EXPECT_EQ(render("{{ self.__init__ }}"), "INVALID_ARGUMENT: line 1: 'self' is undefined");
  EXPECT_EQ(render("{{ ''['__class__']['__mro__'] }}"),
            "INVALID_ARGUMENT: line 1: access to attribute '__class__' of 'str' object is unsafe");
}

TEST(HostileTemplate, BoundsTheSourceAndTheContext) {
  EXPECT_TRUE(is_exhausted(render(repeat("a", (1 << 20) + 1))));
  jinja::Value deep = jinja::Value::none();
  for (int i = 0; i < 200; ++i) deep = jinja::Value::list({deep});
  jinja::MapBuilder context;
  context.set("deep", deep);
  EXPECT_TRUE(is_exhausted(render("", std::move(context).build())));
  EXPECT_EQ(render("\xff"), "INVALID_ARGUMENT: the template is not valid UTF-8");
}

TEST(HostileTemplate, SurvivesFlippedBytes) {
  std::mt19937 random(20260203);
  int parsed = 0;
  TemplateLimits limits;
  limits.max_steps = 20'000;
  const std::filesystem::path folder = LATENTD_TEMPLATES;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path());
    std::stringstream text;
    text << file.rdbuf();
    const std::string source = text.str();
    for (int round = 0; round < 30; ++round) {
      std::string changed = source;
      for (int flip = 0; flip < 1 + round % 3; ++flip) {
        constexpr std::string_view kBytes = "{}%#-+'\"\\()[]|.,:=~*/<> \nax0_";
        changed[random() % changed.size()] = kBytes[random() % kBytes.size()];
      }
      if (round % 5 == 0) changed.resize(random() % changed.size());
      const Result<ChatTemplate> made = ChatTemplate::parse(changed, limits);
      if (!made.ok()) continue;
      ++parsed;
      const Result<std::string> ignored = made->render(sample_context());
    }
  }
  EXPECT_GT(parsed, 50);
}

}  // namespace
}  // namespace latentd
