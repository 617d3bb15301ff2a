#include "server/api_keys.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cctype>

#include "base/check.h"

namespace latentd {

std::string random_key() {
  std::array<unsigned char, 24> bytes{};
  LATENTD_CHECK(RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1,
                "libcrypto has no random bytes");
  std::string key = "lk-";
  for (const unsigned char byte : bytes) key += fmt::format("{:02x}", byte);
  return key;
}

ApiKeys::ApiKeys(const std::vector<std::string>& keys) {
  for (const std::string& key : keys) {
    flag_keys_.push_back({sha256_of(key), std::make_shared<ApiKey>(KeyPolicy())});
  }
  table_ = std::make_shared<const Table>(flag_keys_);
}

std::shared_ptr<const ApiKeys::Table> ApiKeys::table() const {
  std::lock_guard lock(mutex_);
  return table_;
}

Status ApiKeys::use_file(std::filesystem::path path) {
  path_ = std::move(path);
  stamp_ = FileStamp::of(path_);
  LATENTD_ASSIGN_OR_RETURN(const auto entries, read_key_file(path_));
  set_file_keys(entries);
  return ok_status();
}

Result<bool> ApiKeys::reload() {
  if (path_.empty()) return false;
  const FileStamp now = FileStamp::of(path_);
  if (now == stamp_) return false;
  stamp_ = now;
  LATENTD_ASSIGN_OR_RETURN(const auto entries, read_key_file(path_));
  set_file_keys(entries);
  return true;
}

void ApiKeys::set_file_keys(const std::vector<KeyEntry>& entries) {
  const auto old = table();
  auto fresh = std::make_shared<Table>(flag_keys_);
  for (const KeyEntry& entry : entries) {
    const auto same = std::ranges::find_if(*old, [&entry](const Holder& holder) {
      return holder.digest == entry.digest && holder.key->policy() == entry.policy;
    });
    fresh->push_back(
        {entry.digest, same != old->end() ? same->key : std::make_shared<ApiKey>(entry.policy)});
  }
  std::lock_guard lock(mutex_);
  table_ = std::move(fresh);
}

bool ApiKeys::required() const { return !path_.empty() || !flag_keys_.empty(); }

std::size_t ApiKeys::size() const { return table()->size(); }

Result<Caller> ApiKeys::identify(std::string_view authorization) const {
  if (!required()) return Caller();
  const Status refused(StatusCode::kUnauthenticated,
                       "a valid key is required: `Authorization: Bearer KEY`");
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() <= kScheme.size()) return refused;
  const bool bearer =
      std::equal(kScheme.begin(), kScheme.end(), authorization.begin(), [](char want, char got) {
        return want == static_cast<char>(std::tolower(static_cast<unsigned char>(got)));
      });
  if (!bearer) return refused;
  const Sha256 given = sha256_of(authorization.substr(kScheme.size()));
  const auto holders = table();
  const Holder* found = nullptr;
  for (const Holder& holder : *holders) {
    if (CRYPTO_memcmp(holder.digest.data(), given.data(), given.size()) == 0) found = &holder;
  }
  if (found == nullptr) return refused;
  return found->key;
}

}  // namespace latentd
