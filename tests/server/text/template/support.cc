#include "tests/server/text/template/support.h"

#include <gtest/gtest.h>

namespace latentd {

using jinja::MapBuilder;
using jinja::Value;

namespace {

Value message(std::string_view role, std::string_view content) {
  MapBuilder map;
  map.set("role", Value::string(role));
  map.set("content", Value::string(content));
  return std::move(map).build();
}

std::tm sample_time() {
  std::tm time{};
  time.tm_year = 126;
  time.tm_mon = 1;
  time.tm_mday = 3;
  time.tm_hour = 14;
  time.tm_min = 5;
  time.tm_wday = 2;
  time.tm_yday = 33;
  return time;
}

}  // namespace

Value sample_context() {
  MapBuilder object;
  object.set("a", Value::integer(1));
  object.set("b", Value::list({Value::string("x"), Value::none()}));
  object.set("items", Value::string("shadowed"));
  MapBuilder context;
  context.set("messages",
              Value::list({message("user", "Hi there"), message("assistant", "Hello")}));
  context.set("text", Value::string("Grüße, 世界"));
  context.set("number", Value::integer(7));
  context.set("flag", Value::boolean(true));
  context.set("nothing", Value::none());
  context.set("items", Value::list({Value::integer(3), Value::integer(1), Value::integer(2)}));
  context.set("object", std::move(object).build());
  return std::move(context).build();
}

std::string render(std::string_view source, const Value& context, TemplateLimits limits) {
  const Result<ChatTemplate> parsed = ChatTemplate::parse(source, limits);
  if (!parsed.ok()) return parsed.status().to_string();
  const Result<std::string> text = parsed->render(context, sample_time());
  return text.ok() ? *text : text.status().to_string();
}

void expect_texts(const Cases& cases) {
  for (const auto& [source, text] : cases) EXPECT_EQ(render(source), text) << source;
}

}  // namespace latentd
