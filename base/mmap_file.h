// MmapFile: a whole file, mapped read-only.
//
// Contract: move-only owner; the bytes stay valid and at one address until it is destroyed, moves
// included. Thread-safe to read. An empty file maps to an empty span.
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

 private:
  explicit MmapFile(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::span<const std::byte> bytes_;
};

}  // namespace latentd
