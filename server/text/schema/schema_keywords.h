// The keywords and types of JSON schemas, and the paths by which errors name a place.
//
// Contract: constants and pure functions.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "server/text/schema/schema_tree.h"

namespace latentd {

inline constexpr std::size_t kMaxPath = 200;  // of an error message; longer ones are cut

enum TypeBit : unsigned {
  kNullType = 1,
  kBooleanType = 2,
  kIntegerType = 4,
  kNumberType = 8,
  kStringType = 16,
  kArrayType = 32,
  kObjectType = 64,
  kAllTypes = 127,
};

struct SchemaKeyword {
  std::string_view name;
  unsigned implies;  // the types it speaks of
};

// Those that are supported, annotations aside.
std::span<const SchemaKeyword> schema_keywords();

// 0 when there is no such type.
unsigned type_bit(std::string_view name);
// The types that `value` is of (an integer is a number).
unsigned type_of(const SchemaValue& value);
// Values inside of `value`, itself included.
std::size_t parts_of(const SchemaValue& value);
// `path` and one token of a JSON pointer (RFC 6901).
std::string child_path(const std::string& path, std::string_view token);

}  // namespace latentd
