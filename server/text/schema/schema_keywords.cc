#include "server/text/schema/schema_keywords.h"

#include <utility>

namespace latentd {

namespace {

using Kind = SchemaValue::Kind;

constexpr SchemaKeyword kKeywords[] = {
    {"type", 0},
    {"enum", 0},
    {"const", 0},
    {"nullable", 0},
    {"anyOf", 0},
    {"oneOf", 0},
    {"allOf", 0},
    {"$ref", 0},
    {"properties", kObjectType},
    {"required", kObjectType},
    {"additionalProperties", kObjectType},
    {"unevaluatedProperties", kObjectType},
    {"items", kArrayType},
    {"prefixItems", kArrayType},
    {"minItems", kArrayType},
    {"maxItems", kArrayType},
    {"uniqueItems", kArrayType},
    {"minLength", kStringType},
    {"maxLength", kStringType},
    {"pattern", kStringType},
    {"format", kStringType},
    {"minimum", kNumberType},
    {"maximum", kNumberType},
    {"exclusiveMinimum", kNumberType},
    {"exclusiveMaximum", kNumberType},
};

}  // namespace

std::span<const SchemaKeyword> schema_keywords() { return kKeywords; }

unsigned type_bit(std::string_view name) {
  static constexpr std::pair<std::string_view, unsigned> kTypes[] = {
      {"null", kNullType},     {"boolean", kBooleanType}, {"integer", kIntegerType},
      {"number", kNumberType}, {"string", kStringType},   {"array", kArrayType},
      {"object", kObjectType}};
  for (const auto& [type, bit] : kTypes) {
    if (type == name) return bit;
  }
  return 0;
}

unsigned type_of(const SchemaValue& value) {
  switch (value.kind) {
    case Kind::kNull:
      return kNullType;
    case Kind::kBool:
      return kBooleanType;
    case Kind::kNumber:
      return value.text.find_first_of(".eE") == std::string::npos ? kIntegerType | kNumberType
                                                                  : kNumberType;
    case Kind::kString:
      return kStringType;
    case Kind::kArray:
      return kArrayType;
    case Kind::kObject:
      return kObjectType;
  }
  return 0;
}

std::size_t parts_of(const SchemaValue& value) {
  std::size_t parts = 1;
  for (const SchemaValue& child : value.children) parts += parts_of(child);
  return parts;
}

std::string child_path(const std::string& path, std::string_view token) {
  if (path.size() > kMaxPath) return path;
  std::string out = path + "/";
  for (const char c : token.substr(0, kMaxPath)) {
    if (c == '~') {
      out += "~0";
    } else if (c == '/') {
      out += "~1";
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace latentd
