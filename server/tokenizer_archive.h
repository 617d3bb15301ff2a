// TokenizerArchive: the files of a model's directory that tell how it reads text, as a ZIP archive:
// what a gateway asks for that tokenises and renders conversations itself.
//
// Files lie in it as they are, uncompressed, in the order of their names. Weights and code are
// never among them.
//
// Contract: any thread. The archive is made at the first use, which reads the disk (not on a door's
// thread), and kept: the server is of one model.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace latentd {

struct ArchiveBytes {
  std::string zip;
  std::string sha256;  // of `zip`, in hexadecimal
};

class TokenizerArchive final {
 public:
  // kNotFound when the directory has no such file; errors of reading. They are not kept.
  Result<std::shared_ptr<const ArchiveBytes>> of(const std::filesystem::path& directory);

 private:
  std::mutex mutex_;
  std::shared_ptr<const ArchiveBytes> made_;  // guarded by mutex_
};

// (name, contents) as a ZIP archive without compression. REQUIRES: fewer than 65,536 files, less
// than 4 GiB in all.
std::string zip_of(const std::vector<std::pair<std::string, std::string>>& files);

}  // namespace latentd
