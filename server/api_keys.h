// ApiKeys: who may use the doors, by keys from flags and from a file that is read again when it
// changes.
//
// Keys are known by their SHA-256 alone and compared in constant time, every key each time. A plain
// digest is enough because keys are long random strings (`latentd new-key`): there is nothing to
// guess, and a slow hash at the door would be a way to wear it out.
//
// The file is a YAML list, so that a line can be appended to it:
//
//   - {sha256: 64 hex digits, tenant: search, requests-per-minute: 600, tokens-per-minute: 100000,
//      max-concurrent: 32, priority: 0}
//
// All but sha256 is optional; without a tenant a key is its own. Keys of flags are one tenant of no
// name, without limits.
//
// With neither flags nor a file everybody may; with an empty file nobody.
//
// Contract: any thread.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "server/api_key.h"
#include "server/file_stamp.h"
#include "server/sha256.h"

namespace latentd {

struct KeyEntry {
  Sha256 digest{};
  KeyPolicy policy;
};

// kInvalidArgument names the entry (from 1) and the field. kNotFound: no such file.
Result<std::vector<KeyEntry>> read_key_file(const std::filesystem::path& path);

// One line of a key file.
std::string key_file_line(const KeyEntry& entry);

// A new random key: nothing else knows it.
std::string random_key();

class ApiKeys final {
 public:
  explicit ApiKeys(const std::vector<std::string>& keys);

  // From now on the keys of this file count too. Fails as read_key_file.
  Status use_file(std::filesystem::path path);

  // Reads the file again if it has changed; true when it did and the new keys count. A file that
  // has become wrong changes nothing. What runs under a key that is gone ends in peace; a key whose
  // entry is unchanged keeps its counts.
  Result<bool> reload();

  bool required() const;
  std::size_t size() const;

  // `authorization` is the header's value: "Bearer KEY", the scheme in any case.
  // kUnauthenticated without a valid key; null when none is asked for.
  Result<Caller> identify(std::string_view authorization) const;

 private:
  struct Holder {
    Sha256 digest{};
    Caller key;
  };
  using Table = std::vector<Holder>;

  std::shared_ptr<const Table> table() const;
  void set_file_keys(const std::vector<KeyEntry>& entries);

  Table flag_keys_;
  std::filesystem::path path_;  // empty: no file
  FileStamp stamp_;             // of what was read, or tried, last
  mutable std::mutex mutex_;
  std::shared_ptr<const Table> table_;  // guarded by mutex_; readers keep what they took
};

}  // namespace latentd
