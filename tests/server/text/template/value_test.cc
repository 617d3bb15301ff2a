#include "server/text/template/value.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/server/text/template/support.h"

namespace latentd {
namespace {

using jinja::MapBuilder;
using jinja::Value;

TEST(TemplateValue, KeepsTheFirstPlaceAndTheLastValueOfAKey) {
  MapBuilder builder;
  builder.set("b", Value::integer(1));
  builder.set("a", Value::integer(2));
  builder.set("b", Value::integer(3));
  MapBuilder context;
  context.set("map", std::move(builder).build());
  EXPECT_EQ(render("{{ map }}", std::move(context).build()), "{'b': 3, 'a': 2}");
}

TEST(TemplateValue, FindsKeysOfLargeMaps) {
  MapBuilder builder;
  for (int i = 0; i < 1000; ++i) builder.set("key" + std::to_string(i), Value::integer(i));
  const Value map = std::move(builder).build();
  for (int i = 0; i < 1000; ++i) {
    const Value* found = map.map().find("key" + std::to_string(i));
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(found->as_int(), i);
  }
  EXPECT_EQ(map.map().find("key1000"), nullptr);
}

TEST(TemplateValue, TakesOneOneAndTrueForOneKey) {
  EXPECT_EQ(render("{{ {1: 'a', 1.0: 'b', true: 'c'} }} {{ {1: 'a'}[true] }}"), "{1: 'c'} a");
}

TEST(TemplateValue, ReplacesWhatIsNotUtf8) {
  EXPECT_EQ(Value::string("a\xff"
                          "b")
                .bytes(),
            "a\xEF\xBF\xBD"
            "b");
  EXPECT_EQ(Value::string("aé世").text().length, 3U);
}

TEST(TemplateValue, CountsTheDepthOfWhatItHolds) {
  EXPECT_EQ(Value::integer(1).depth(), 0);
  EXPECT_EQ(Value::list({}).depth(), 1);
  EXPECT_EQ(Value::list({Value::integer(1), Value::tuple({Value::list({})})}).depth(), 3);
}

TEST(TemplateValue, RendersFromManyThreadsAtOnce) {
  const Result<ChatTemplate> parsed = ChatTemplate::parse(
      "{% macro m(x) %}{{ x.content | upper }}{% endmacro %}"
      "{% for x in messages %}{{ m(x) }}{% endfor %}{{ [messages[0].role, 1] | tojson }}");
  ASSERT_TRUE(parsed.ok());
  const Value context = sample_context();
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (std::size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        const Result<std::string> text = parsed->render(context);
        if (!text.ok() || *text != "HI THEREHELLO[\"user\", 1]") ++wrong[t];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

TEST(TemplateValue, NeedsAMapAsContext) {
  const Result<ChatTemplate> parsed = ChatTemplate::parse("x");
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->render(Value::integer(1)).status().message(),
            "the context of a template must be a map");
}

}  // namespace
}  // namespace latentd
