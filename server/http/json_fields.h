// JsonFields: reads the fields of a client's JSON object and remembers the first fault.
//
// A field that is absent or null leaves its target as it is; one of a wrong type is a fault that
// names it; fields that nobody asks for are tolerated. Ranges are not its business: the validator
// checks them, but what does not fit the target's type at all is a fault here.
//
// Contract: borrows the object; one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/status.h"
#include "engine/model/json.h"

namespace latentd {

// The object that a body is. Its size is bounded by whoever has read it.
Result<Json> parse_body(std::string_view body);

class JsonFields final {
 public:
  explicit JsonFields(const Json& object) : object_(object) {}

  const Status& status() const { return status_; }

  // Null when absent or null.
  const Json* find(const char* name) const;

  void read(const char* name, int& target);
  void read(const char* name, double& target);
  void read(const char* name, bool& target);
  void read(const char* name, std::string& target);
  void read(const char* name, std::optional<int>& target);
  void read(const char* name, std::optional<double>& target);
  void read(const char* name, std::vector<TokenId>& target);
  void read(const char* name, std::vector<std::string>& target);
  // Any 64-bit integer; negative ones as their two's complement.
  void read_seed(const char* name, std::optional<std::uint64_t>& target);

  void fault(const char* name, std::string message);

 private:
  const Json& object_;
  Status status_;
};

// The value as an int when it is a whole number that fits one.
std::optional<int> as_int(const Json& value);

}  // namespace latentd
