#include "server/prefix_salt.h"

#include <openssl/rand.h>

#include <cstring>

#include "base/check.h"
#include "server/sha256.h"

namespace latentd {

PrefixSalt::PrefixSalt() {
  LATENTD_CHECK(RAND_bytes(secret_.data(), static_cast<int>(secret_.size())) == 1,
                "libcrypto has no random bytes");
}

std::uint64_t PrefixSalt::of(const std::string& tenant, const std::string& cache_salt) const {
  if (tenant.empty() && cache_salt.empty()) return 0;
  // The length makes ("a", "bc") and ("ab", "c") different.
  std::string text(secret_.begin(), secret_.end());
  text += std::to_string(tenant.size()) + ":" + tenant + cache_salt;
  const Sha256 digest = sha256_of(text);
  std::uint64_t salt = 0;
  std::memcpy(&salt, digest.data(), sizeof(salt));
  return salt;
}

}  // namespace latentd
