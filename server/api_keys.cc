#include "server/api_keys.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <cctype>

#include "base/check.h"

namespace latentd {

ApiKeys::Digest ApiKeys::digest(std::string_view key) {
  Digest out{};
  unsigned int size = 0;
  const int ok = EVP_Digest(key.data(), key.size(), out.data(), &size, EVP_sha256(), nullptr);
  LATENTD_CHECK(ok == 1 && size == out.size(), "libcrypto has no SHA-256");
  return out;
}

ApiKeys::ApiKeys(const std::vector<std::string>& keys) {
  digests_.reserve(keys.size());
  for (const std::string& key : keys) digests_.push_back(digest(key));
}

bool ApiKeys::allows(std::string_view authorization) const {
  if (digests_.empty()) return true;
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() <= kScheme.size()) return false;
  const bool bearer =
      std::equal(kScheme.begin(), kScheme.end(), authorization.begin(), [](char want, char got) {
        return want == static_cast<char>(std::tolower(static_cast<unsigned char>(got)));
      });
  if (!bearer) return false;
  const Digest given = digest(authorization.substr(kScheme.size()));
  int matches = 0;
  for (const Digest& key : digests_) {
    matches |= static_cast<int>(CRYPTO_memcmp(key.data(), given.data(), key.size()) == 0);
  }
  return matches != 0;
}

}  // namespace latentd
