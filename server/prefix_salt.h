// PrefixSalt: whose cached prompts a request may share.
//
// Tenants share nothing, so that nobody learns from a time to first token what another has asked; a
// client may divide its own further with `cache_salt`. The salt is the first 64 bits of
// SHA-256(a secret of this process, tenant, cache_salt): without the secret no client can look for
// a cache_salt that meets another tenant's.
//
// Contract: immutable; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace latentd {

class PrefixSalt final {
 public:
  PrefixSalt();

  // 0 for no tenant and no salt.
  std::uint64_t of(const std::string& tenant, const std::string& cache_salt) const;

 private:
  std::array<unsigned char, 32> secret_{};
};

}  // namespace latentd
