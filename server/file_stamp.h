// FileStamp: tells when a file may have changed.
//
// Watched by asking, not by inotify: that sees nothing of a Kubernetes volume, where a symbolic
// link above the file is turned, nor of network file systems.
//
// Contract: a value.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <filesystem>

namespace latentd {

struct FileStamp {
  std::int64_t modified_ns = 0;
  std::int64_t size = -1;  // -1: there is no such file
  std::uint64_t inode = 0;

  // Follows links.
  static FileStamp of(const std::filesystem::path& path) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) return {};
    return {info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec, info.st_size, info.st_ino};
  }

  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};

}  // namespace latentd
