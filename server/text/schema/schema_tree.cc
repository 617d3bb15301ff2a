#include "server/text/schema/schema_tree.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <utility>

#include "server/text/schema/json_string.h"

namespace latentd {

namespace {

using Kind = SchemaValue::Kind;

// nlohmann's event interface: every function returns false to stop, with `error` set.
class Reader {
 public:
  const std::string& error() const { return error_; }
  SchemaValue take() { return std::move(root_); }

  bool null() { return add({}); }
  bool boolean(bool v) {
    SchemaValue value;
    value.kind = Kind::kBool;
    value.boolean = v;
    return add(std::move(value));
  }
  bool number_integer(std::int64_t v) { return number(std::to_string(v)); }
  bool number_unsigned(std::uint64_t v) { return number(std::to_string(v)); }
  bool number_float(double, const std::string& spelling) { return number(spelling); }
  bool string(std::string& v) {
    SchemaValue value;
    value.kind = Kind::kString;
    value.text = std::move(v);
    return add(std::move(value));
  }
  bool binary(nlohmann::json::binary_t&) { return fail("binary data"); }
  bool start_object(std::size_t) { return open(Kind::kObject); }
  bool start_array(std::size_t) { return open(Kind::kArray); }
  bool end_array() { return close(); }
  bool end_object() {
    std::vector<std::string_view> names(open_.back().keys.begin(), open_.back().keys.end());
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end()) return fail(fmt::format("the key \"{}\" is there twice", *twice));
    return close();
  }
  bool key(std::string& v) {
    open_.back().keys.push_back(std::move(v));
    return true;
  }
  template <typename Exception>
  bool parse_error(std::size_t position, const std::string&, const Exception&) {
    return fail(fmt::format("not JSON at byte {}", position));
  }

 private:
  bool fail(std::string error) {
    error_ = std::move(error);
    return false;
  }
  bool number(std::string spelling) {
    SchemaValue value;
    value.kind = Kind::kNumber;
    value.text = std::move(spelling);
    return add(std::move(value));
  }
  bool open(Kind kind) {
    if (open_.size() >= kMaxSchemaDepth) {
      return fail(fmt::format("nested deeper than {}", kMaxSchemaDepth));
    }
    open_.emplace_back().kind = kind;
    return true;
  }
  bool close() {
    SchemaValue value = std::move(open_.back());
    open_.pop_back();
    return add(std::move(value));
  }
  bool add(SchemaValue value) {
    (open_.empty() ? root_ : open_.back().children.emplace_back()) = std::move(value);
    return true;
  }

  SchemaValue root_;
  std::vector<SchemaValue> open_;
  std::string error_;
};

void spell_into(const SchemaValue& value, std::string& out) {
  switch (value.kind) {
    case Kind::kNull:
      out += "null";
      return;
    case Kind::kBool:
      out += value.boolean ? "true" : "false";
      return;
    case Kind::kNumber:
      out += value.text;
      return;
    case Kind::kString:
      append_json_string(value.text, out);
      return;
    case Kind::kArray:
    case Kind::kObject:
      break;
  }
  const bool object = value.kind == Kind::kObject;
  out += object ? '{' : '[';
  for (std::size_t i = 0; i < value.children.size(); ++i) {
    if (i > 0) out += ',';
    if (object) {
      append_json_string(value.keys[i], out);
      out += ':';
    }
    spell_into(value.children[i], out);
  }
  out += object ? '}' : ']';
}

}  // namespace

const SchemaValue* SchemaValue::find(std::string_view key) const {
  const auto found = std::find(keys.begin(), keys.end(), key);
  return found == keys.end() ? nullptr : &children[static_cast<std::size_t>(found - keys.begin())];
}

void SchemaValue::set(std::string key, SchemaValue value) {
  const auto found = std::find(keys.begin(), keys.end(), key);
  if (found != keys.end()) {
    children[static_cast<std::size_t>(found - keys.begin())] = std::move(value);
    return;
  }
  keys.push_back(std::move(key));
  children.push_back(std::move(value));
}

void SchemaValue::erase(std::string_view key) {
  const auto found = std::find(keys.begin(), keys.end(), key);
  if (found == keys.end()) return;
  children.erase(children.begin() + (found - keys.begin()));
  keys.erase(found);
}

SchemaValue SchemaValue::object() {
  SchemaValue value;
  value.kind = Kind::kObject;
  return value;
}

Result<SchemaValue> parse_schema_value(std::string_view json, std::size_t max_bytes) {
  if (json.size() > max_bytes) {
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("schema: at most {} bytes, got {}", max_bytes, json.size()));
  }
  Reader reader;
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &reader)) {
    return Status(StatusCode::kInvalidArgument, fmt::format("schema: {}", reader.error()));
  }
  return reader.take();
}

std::string spell(const SchemaValue& value) {
  std::string out;
  spell_into(value, out);
  return out;
}

}  // namespace latentd
