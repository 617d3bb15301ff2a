#include "server/json_value.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace latentd {
namespace {

using jinja::Value;

// Builds the value from the parser's events, whose names and signatures are nlohmann's.
class ValueBuilder final : public nlohmann::json_sax<nlohmann::json> {
 public:
  Value take() { return std::move(root_); }

  bool null() override { return add(Value::none()); }
  bool boolean(bool value) override { return add(Value::boolean(value)); }
  bool number_integer(number_integer_t value) override { return add(Value::integer(value)); }
  bool number_unsigned(number_unsigned_t value) override {
    constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    if (value > kMax) return add(Value::number(static_cast<double>(value)));
    return add(Value::integer(static_cast<std::int64_t>(value)));
  }
  bool number_float(number_float_t value, const string_t& /*text*/) override {
    return add(Value::number(value));
  }
  bool string(string_t& value) override { return add(Value::valid_string(std::move(value))); }
  bool binary(binary_t& /*value*/) override { return false; }
  bool start_object(std::size_t /*elements*/) override { return open(true); }
  bool start_array(std::size_t /*elements*/) override { return open(false); }
  bool key(string_t& name) override {
    open_.back().key = std::move(name);
    return true;
  }
  bool end_object() override {
    Value map = std::move(open_.back().map).build();
    open_.pop_back();
    return add(std::move(map));
  }
  bool end_array() override {
    Value list = Value::list(std::move(open_.back().items));
    open_.pop_back();
    return add(std::move(list));
  }
  bool parse_error(std::size_t /*position*/, const std::string& /*token*/,
                   const nlohmann::detail::exception& /*reason*/) override {
    return false;
  }

 private:
  struct Container {
    bool is_map = false;
    std::string key;  // of the next value
    jinja::MapBuilder map;
    std::vector<Value> items;
  };

  bool open(bool is_map) {
    open_.emplace_back().is_map = is_map;
    return true;
  }

  bool add(Value value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (open_.back().is_map) {
      open_.back().map.set(open_.back().key, std::move(value));
    } else {
      open_.back().items.push_back(std::move(value));
    }
    return true;
  }

  Value root_;
  std::vector<Container> open_;
};

void append_json(const Value& value, std::string& out) {
  switch (value.kind()) {
    case jinja::Kind::kBool:
      out += value.as_bool() ? "true" : "false";
      return;
    case jinja::Kind::kInt:
      out += std::to_string(value.as_int());
      return;
    case jinja::Kind::kDouble:
      out += nlohmann::json(value.as_double()).dump();
      return;
    case jinja::Kind::kString:
      out += nlohmann::json(value.bytes()).dump();
      return;
    case jinja::Kind::kSequence:
      out += '[';
      for (const Value& item : value.sequence()->items) {
        if (out.back() != '[') out += ',';
        append_json(item, out);
      }
      out += ']';
      return;
    case jinja::Kind::kMap:
      out += '{';
      for (const auto& [key, member] : value.map().entries()) {
        if (out.back() != '{') out += ',';
        append_json(key, out);
        out += ':';
        append_json(member, out);
      }
      out += '}';
      return;
    default:
      out += "null";
  }
}

}  // namespace

Value value_of_json(std::string_view text) {
  ValueBuilder builder;
  nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

std::string json_of_value(const Value& value) {
  std::string out;
  append_json(value, out);
  return out;
}

}  // namespace latentd
