// Renders templates for template_oracle.py: a JSON object a line in, one out.
//
// {"define": name, "source": text} -> {"ok": ""} or {"error": message}
// {"use": name, "context": {...}}  -> {"ok": text} or {"error": message}; strftime_now shows
// 2026-02-03 04:05:06, a Tuesday.
#include <ctime>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "server/text/template/chat_template.h"

namespace {

using Json = nlohmann::ordered_json;
using latentd::ChatTemplate;
using latentd::Result;
using latentd::jinja::MapBuilder;
using latentd::jinja::Value;

Value to_value(const Json& json) {
  switch (json.type()) {
    case Json::value_t::boolean:
      return Value::boolean(json.get<bool>());
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      return Value::integer(json.get<std::int64_t>());
    case Json::value_t::number_float:
      return Value::number(json.get<double>());
    case Json::value_t::string:
      return Value::string(json.get_ref<const std::string&>());
    case Json::value_t::array: {
      std::vector<Value> items;
      for (const Json& item : json) items.push_back(to_value(item));
      return Value::list(std::move(items));
    }
    case Json::value_t::object: {
      MapBuilder map;
      for (const auto& [key, value] : json.items()) map.set(key, to_value(value));
      return std::move(map).build();
    }
    default:
      return Value::none();
  }
}

std::tm fixed_time() {
  std::tm time{};
  time.tm_year = 126;
  time.tm_mon = 1;
  time.tm_mday = 3;
  time.tm_hour = 4;
  time.tm_min = 5;
  time.tm_sec = 6;
  time.tm_wday = 2;
  time.tm_yday = 33;
  return time;
}

Json answer(const Json& line, std::map<std::string, Result<ChatTemplate>>& templates) {
  if (line.contains("define")) {
    const auto [at, added] = templates.insert_or_assign(
        line["define"].get<std::string>(),
        ChatTemplate::parse(line["source"].get_ref<const std::string&>()));
    if (at->second.ok()) return {{"ok", ""}};
    return {{"error", at->second.status().to_string()}};
  }
  const auto found = templates.find(line["use"].get<std::string>());
  if (found == templates.end()) return {{"error", "no such template"}};
  if (!found->second.ok()) return {{"error", found->second.status().to_string()}};
  const Result<std::string> text = found->second->render(to_value(line["context"]), fixed_time());
  if (text.ok()) return {{"ok", *text}};
  return {{"error", text.status().to_string()}};
}

}  // namespace

int main() {
  std::map<std::string, Result<ChatTemplate>> templates;
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << answer(Json::parse(line), templates).dump() << '\n';
  }
  return std::cout.flush() ? 0 : 1;
}
