// FieldReader: typed, range-checked reading of one JSON object that remembers every fault.
//
// Readers go through all fields they know; the report at the end names each one at fault and its
// limit, so that a broken config is repaired in one go.
//
// Contract: borrows the object and the fault list; not thread-safe. A field that is absent or null
// yields the fallback; one without a fallback is then a fault. After a fault the value returned is
// in range, so that reading can go on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "engine/model/json.h"

namespace latentd {

// Faults of one document, as "field: what is wrong".
class FaultList {
 public:
  void add(std::string_view field, std::string_view reason);
  bool empty() const { return lines_.empty(); }
  // All of them, one a line.
  std::string to_string() const;

 private:
  std::vector<std::string> lines_;
};

struct IntRange {
  std::int64_t low = 0;
  std::int64_t high = 0;
};

struct RealRange {
  double low = 0.0;
  double high = 0.0;
};

class FieldReader {
 public:
  // `prefix` stands before field names in faults ("rope_scaling."). REQUIRES: `object` is one.
  FieldReader(const Json& object, FaultList& faults, std::string prefix = "");

  // The value of `name`, or nullptr when it is absent or null.
  const Json* find(std::string_view name) const;
  bool has(std::string_view name) const { return find(name) != nullptr; }

  int require_int(std::string_view name, IntRange range);
  int read_int(std::string_view name, IntRange range, int fallback);
  std::optional<int> read_int(std::string_view name, IntRange range);
  double read_real(std::string_view name, RealRange range, double fallback);
  std::optional<double> read_real(std::string_view name, RealRange range);
  bool read_bool(std::string_view name, bool fallback);
  std::string read_string(std::string_view name, std::string_view fallback);
  // An int or a list of ints.
  std::vector<TokenId> read_token_ids(std::string_view name, IntRange range);

  // A fault of this object's field.
  void fault(std::string_view name, std::string_view reason);

 private:
  std::optional<int> to_int(std::string_view name, const Json& value, IntRange range);

  const Json& object_;
  FaultList& faults_;
  const std::string prefix_;
};

}  // namespace latentd
