// SchemaValue: a JSON document as it was written: members in order, numbers by their spelling.
//
// The one door of the schema compiler to nlohmann-json. Refused: more bytes than allowed, nesting
// deeper than 64, a key twice in one object, anything that is not RFC 8259 JSON in valid UTF-8.
// Contract: values; pure functions; nothing throws.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace latentd {

inline constexpr std::size_t kMaxSchemaBytes = std::size_t{64} << 10;
inline constexpr std::size_t kMaxSchemaDepth = 64;

struct SchemaValue {
  enum class Kind { kNull, kBool, kNumber, kString, kArray, kObject };

  Kind kind = Kind::kNull;
  bool boolean = false;
  std::string text;                   // of a string; of a number, its spelling
  std::vector<std::string> keys;      // of an object, in order
  std::vector<SchemaValue> children;  // members, parallel to keys; or items

  bool is(Kind k) const { return kind == k; }
  // The member, or nullptr. REQUIRES: nothing (nullptr when this is no object).
  const SchemaValue* find(std::string_view key) const;
  void set(std::string key, SchemaValue value);  // replaces or appends
  void erase(std::string_view key);

  static SchemaValue object();
};

// kInvalidArgument or kResourceExhausted (too large).
Result<SchemaValue> parse_schema_value(std::string_view json,
                                       std::size_t max_bytes = kMaxSchemaBytes);

// Compact JSON: strings in their one canonical spelling (json_string.h), numbers as written.
std::string spell(const SchemaValue& value);

}  // namespace latentd
