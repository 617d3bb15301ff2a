#include "server/sha256.h"

#include <openssl/evp.h>
#include <spdlog/fmt/fmt.h>

#include "base/check.h"

namespace latentd {

Sha256 sha256_of(std::string_view bytes) {
  Sha256 out{};
  unsigned int size = 0;
  const int ok = EVP_Digest(bytes.data(), bytes.size(), out.data(), &size, EVP_sha256(), nullptr);
  LATENTD_CHECK(ok == 1 && size == out.size(), "libcrypto has no SHA-256");
  return out;
}

std::string hex_of(const Sha256& digest) {
  std::string out;
  for (const std::uint8_t byte : digest) out += fmt::format("{:02x}", byte);
  return out;
}

}  // namespace latentd
