// MmapFile: a whole file, mapped read-only.
//
// Contract: move-only owner; the bytes stay valid and at one address until it is destroyed, moves
// included. Thread-safe to read. An empty file maps to an empty span. Keeps the file open.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

#include "base/result.h"

namespace latentd {

class MmapFile {
 public:
  // Errors: kNotFound, kPermissionDenied, kInvalidArgument (not a regular file), kInternal; all
  // name the path. Symbolic links are followed (the hub cache and Kubernetes volumes are made of
  // them).
  static Result<MmapFile> open(const std::filesystem::path& path);

  MmapFile(MmapFile&& other) noexcept;
  MmapFile& operator=(MmapFile&& other) noexcept;
  ~MmapFile();

  std::span<const std::byte> bytes() const { return bytes_; }

  bool holds(const std::byte* at) const {
    return at >= bytes_.data() && at < bytes_.data() + bytes_.size();
  }
  // Copies the bytes from `from` on through the file, not the mapping: no page of it is touched.
  // False when the system fails to. REQUIRES: they lie in bytes().
  bool read(const std::byte* from, std::span<std::byte> to) const;

 private:
  MmapFile(std::span<const std::byte> bytes, int fd) : bytes_(bytes), fd_(fd) {}

  std::span<const std::byte> bytes_;
  int fd_ = -1;
};

}  // namespace latentd
