// Safetensors files, mapped: one file, or the shards that an index names.
//
// Layout of a file: an 8-byte little-endian length N, a JSON object of N bytes (tensor name ->
// dtype, shape, data_offsets [begin, end) within the rest), then the data. Nothing in it is
// trusted: a file that opens has a header of at most 100 MB, known dtypes, shapes whose size is
// computed without overflow and equals the range of bytes, ranges that are inside the file, aligned
// to their dtype and do not overlap.
//
// Contract: owns the mappings; entries and their bytes live as long as the owner, moves included.
// Immutable after open; safe from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/mmap_file.h"
#include "base/result.h"

namespace latentd {

struct SafetensorsEntry {
  std::string dtype_text;      // as the file spells it: "BF16"
  std::optional<DType> dtype;  // unset for those that we never compute with ("F64", "BOOL", ...)
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;

  // "BF16 [2048, 576]"
  std::string to_string() const;
};

using SafetensorsTable = std::map<std::string, SafetensorsEntry, std::less<>>;

// The table of a file's bytes; entries point into `file`. kDataLoss with the reason.
Result<SafetensorsTable> parse_safetensors(std::span<const std::byte> file);

class Safetensors {
 public:
  // One file. Errors: those of MmapFile::open; kDataLoss when it is malformed. All name the path.
  static Result<Safetensors> open_file(const std::filesystem::path& path);

  // `directory`/model.safetensors when it exists, otherwise the shards that
  // model.safetensors.index.json names. Shards lie in the directory: names with '/' or ".." are
  // refused; symbolic links are followed. Tensors that the index promises and its shard lacks, or
  // that two shards hold, are kDataLoss.
  static Result<Safetensors> open_directory(const std::filesystem::path& directory);

  // nullptr when there is none of that name.
  const SafetensorsEntry* find(std::string_view name) const;
  const SafetensorsTable& table() const { return table_; }
  // MmapFile::read of the file that holds `from`; false when none does.
  bool read(const std::byte* from, std::span<std::byte> to) const;

 private:
  static Result<Safetensors> open_shards(const std::filesystem::path& directory,
                                         const std::filesystem::path& index_path);

  std::vector<MmapFile> files_;
  SafetensorsTable table_;
};

}  // namespace latentd
