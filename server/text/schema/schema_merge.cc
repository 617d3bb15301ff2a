#include "server/text/schema/schema_merge.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace latentd {

namespace {

using Kind = SchemaValue::Kind;

Status cannot_combine(std::string_view keyword) {
  return {StatusCode::kInvalidArgument,
          fmt::format("\"{}\" cannot be combined with the other one here", keyword)};
}

std::vector<std::string> type_names(const SchemaValue& type) {
  if (type.is(Kind::kString)) return {type.text};
  std::vector<std::string> names;
  for (const SchemaValue& child : type.children) names.push_back(child.text);
  return names;
}

bool has(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

SchemaValue intersect_types(const SchemaValue& a, const SchemaValue& b) {
  const std::vector<std::string> first = type_names(a);
  const std::vector<std::string> second = type_names(b);
  SchemaValue both;
  both.kind = Kind::kArray;
  const auto add = [&both](std::string name) {
    SchemaValue value;
    value.kind = Kind::kString;
    value.text = std::move(name);
    both.children.push_back(std::move(value));
  };
  for (const std::string& name : first) {
    const bool integer = name == "number" && !has(second, "number") && has(second, "integer");
    if (integer && !has(first, "integer")) add("integer");
    if (has(second, name) || (name == "integer" && has(second, "number"))) add(name);
  }
  return both;
}

SchemaValue all_of(const SchemaValue& a, const SchemaValue& b) {
  SchemaValue list;
  list.kind = Kind::kArray;
  list.children = {a, b};
  SchemaValue schema = SchemaValue::object();
  schema.set("allOf", std::move(list));
  return schema;
}

SchemaValue union_of(const SchemaValue& a, const SchemaValue& b) {
  SchemaValue result = a;
  for (std::size_t i = 0; i < b.keys.size(); ++i) {
    const SchemaValue* there = a.find(b.keys[i]);
    result.set(b.keys[i], there == nullptr ? b.children[i] : all_of(*there, b.children[i]));
  }
  return result;
}

// Closing one of them is only understood where it names all properties of the other.
Status check_closed(const SchemaValue& a, const SchemaValue& b) {
  const SchemaValue* closed = a.find("additionalProperties");
  if (closed == nullptr || (closed->is(Kind::kBool) && closed->boolean)) return ok_status();
  const SchemaValue* mine = a.find("properties");
  for (const char* keyword : {"properties", "required"}) {
    const SchemaValue* theirs = b.find(keyword);
    if (theirs == nullptr) continue;
    const bool object = theirs->is(Kind::kObject);
    for (std::size_t i = 0; i < theirs->children.size(); ++i) {
      const std::string& name = object ? theirs->keys[i] : theirs->children[i].text;
      if (mine == nullptr || mine->find(name) == nullptr) {
        return cannot_combine("additionalProperties");
      }
    }
  }
  return ok_status();
}

// What speaks of "the rest" speaks of another rest once there are two schemas.
Status check_positions(const SchemaValue& a, const SchemaValue& b) {
  if (b.find("unevaluatedProperties") != nullptr) return cannot_combine("unevaluatedProperties");
  const auto lists = [](const SchemaValue& s) {
    return s.find("items") != nullptr || s.find("prefixItems") != nullptr;
  };
  const bool prefix = a.find("prefixItems") != nullptr || b.find("prefixItems") != nullptr;
  if (prefix && lists(a) && lists(b)) return cannot_combine("prefixItems");
  const SchemaValue* nullable = b.find("nullable");
  if (nullable != nullptr && nullable->boolean) return cannot_combine("nullable");
  return ok_status();
}

// One of the two, by which is stricter.
bool take_stricter(std::string_view keyword, SchemaValue& mine, const SchemaValue& other) {
  static constexpr std::string_view kLowest[] = {"maximum", "exclusiveMaximum", "maxLength",
                                                 "maxItems"};
  static constexpr std::string_view kHighest[] = {"minimum", "exclusiveMinimum", "minLength",
                                                  "minItems"};
  const auto contains = [keyword](const auto& list) {
    return std::find(std::begin(list), std::end(list), keyword) != std::end(list);
  };
  const bool lowest = contains(kLowest);
  if (!lowest && !contains(kHighest)) return false;
  if (!mine.is(Kind::kNumber) || !other.is(Kind::kNumber)) return false;
  if (number_less(mine.text, other.text) != lowest) mine = other;
  return true;
}

Status merge_keyword(const std::string& keyword, SchemaValue& mine, const SchemaValue& other) {
  if (is_annotation(keyword)) return ok_status();
  if (keyword == "type") {
    mine = intersect_types(mine, other);
  } else if (keyword == "properties" && mine.is(Kind::kObject) && other.is(Kind::kObject)) {
    mine = union_of(mine, other);
  } else if ((keyword == "required" || keyword == "allOf") && mine.is(Kind::kArray) &&
             other.is(Kind::kArray)) {
    mine.children.insert(mine.children.end(), other.children.begin(), other.children.end());
  } else if (keyword == "items" || keyword == "additionalProperties") {
    mine = all_of(mine, other);
  } else if (!take_stricter(keyword, mine, other) && spell(mine) != spell(other)) {
    return cannot_combine(keyword);
  }
  return ok_status();
}

// ~1 and ~0 of RFC 6901, and %XX.
std::string decode_token(std::string_view token) {
  std::string out;
  for (std::size_t i = 0; i < token.size(); ++i) {
    if (token[i] == '~' && i + 1 < token.size()) {
      out += token[++i] == '1' ? '/' : '~';
    } else if (token[i] == '%' && i + 2 < token.size()) {
      out +=
          static_cast<char>(std::strtol(std::string(token.substr(i + 1, 2)).c_str(), nullptr, 16));
      i += 2;
    } else {
      out += token[i];
    }
  }
  return out;
}

}  // namespace

bool is_annotation(std::string_view keyword) {
  static constexpr std::string_view kAnnotations[] = {
      "title",    "description", "default",       "examples",     "example",  "$schema",
      "$comment", "$id",         "$defs",         "definitions",  "readOnly", "writeOnly",
      "id",       "deprecated",  "discriminator", "externalDocs", "xml"};
  return std::find(std::begin(kAnnotations), std::end(kAnnotations), keyword) !=
             std::end(kAnnotations) ||
         keyword.starts_with("x-");
}

bool number_less(std::string_view a, std::string_view b) {
  return std::strtod(std::string(a).c_str(), nullptr) <
         std::strtod(std::string(b).c_str(), nullptr);
}

Result<SchemaValue> merge_schemas(const SchemaValue& a, const SchemaValue& b) {
  if (a.is(Kind::kBool)) return a.boolean ? b : a;
  if (b.is(Kind::kBool)) return b.boolean ? a : b;
  if (!a.is(Kind::kObject) || !b.is(Kind::kObject)) {
    return Status(StatusCode::kInvalidArgument, "a schema must be an object, true or false");
  }
  LATENTD_RETURN_IF_ERROR(check_closed(a, b));
  LATENTD_RETURN_IF_ERROR(check_closed(b, a));
  LATENTD_RETURN_IF_ERROR(check_positions(a, b));
  SchemaValue merged = a;
  for (std::size_t i = 0; i < b.keys.size(); ++i) {
    const auto found = std::find(merged.keys.begin(), merged.keys.end(), b.keys[i]);
    if (found == merged.keys.end()) {
      merged.set(b.keys[i], b.children[i]);
      continue;
    }
    SchemaValue& mine = merged.children[static_cast<std::size_t>(found - merged.keys.begin())];
    LATENTD_RETURN_IF_ERROR(merge_keyword(b.keys[i], mine, b.children[i]));
  }
  return merged;
}

const SchemaValue* resolve_reference(const SchemaValue& document, std::string_view reference) {
  if (!reference.starts_with('#')) return nullptr;
  reference.remove_prefix(1);
  const SchemaValue* at = &document;
  while (!reference.empty()) {
    if (reference[0] != '/') return nullptr;
    const std::size_t end = std::min(reference.find('/', 1), reference.size());
    const std::string token = decode_token(reference.substr(1, end - 1));
    reference.remove_prefix(end);
    if (at->is(Kind::kArray)) {
      const auto index = static_cast<std::size_t>(std::strtoul(token.c_str(), nullptr, 10));
      if (token.empty() || index >= at->children.size()) return nullptr;
      at = &at->children[index];
    } else {
      at = at->find(token);
      if (at == nullptr) return nullptr;
    }
  }
  return at;
}

}  // namespace latentd
