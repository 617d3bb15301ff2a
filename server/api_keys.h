// ApiKeys: who may use the doors.
//
// Keys are kept as SHA-256 digests and compared in constant time, every key each time. Without keys
// everybody may.
//
// Contract: immutable; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace latentd {

class ApiKeys {
 public:
  explicit ApiKeys(const std::vector<std::string>& keys);

  bool required() const { return !digests_.empty(); }

  // `authorization` is the header's value: "Bearer KEY", the scheme in any case.
  bool allows(std::string_view authorization) const;

 private:
  using Digest = std::array<std::uint8_t, 32>;
  static Digest digest(std::string_view key);

  std::vector<Digest> digests_;
};

}  // namespace latentd
