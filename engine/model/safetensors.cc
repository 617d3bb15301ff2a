#include "engine/model/safetensors.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "engine/model/json.h"

namespace latentd {
namespace {

constexpr std::size_t kMaxHeaderBytes = 100'000'000;
constexpr std::size_t kMaxRank = 8;
constexpr std::string_view kMetadataKey = "__metadata__";

struct FileDType {
  std::string_view name;
  std::size_t size;
  std::optional<DType> dtype;
};

constexpr std::array kFileDTypes = {
    FileDType{"F32", 4, DType::kF32},      FileDType{"BF16", 2, DType::kBF16},
    FileDType{"F16", 2, DType::kF16},      FileDType{"F8_E4M3", 1, DType::kF8E4M3},
    FileDType{"I64", 8, DType::kI64},      FileDType{"I32", 4, DType::kI32},
    FileDType{"U8", 1, DType::kU8},        FileDType{"F64", 8, std::nullopt},
    FileDType{"U64", 8, std::nullopt},     FileDType{"U32", 4, std::nullopt},
    FileDType{"I16", 2, std::nullopt},     FileDType{"U16", 2, std::nullopt},
    FileDType{"I8", 1, std::nullopt},      FileDType{"BOOL", 1, std::nullopt},
    FileDType{"F8_E5M2", 1, std::nullopt},
};

Status data_loss(std::string message) { return {StatusCode::kDataLoss, std::move(message)}; }

Status with_path(const std::filesystem::path& path, const Status& status) {
  return {status.code(), path.string() + ": " + status.message()};
}

// Non-negative and representable as int64.
std::optional<std::uint64_t> to_size(const Json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  const auto number = value.get<std::uint64_t>();
  return number <= INT64_MAX ? std::optional(number) : std::nullopt;
}

// `size` times every dimension of `shape`, which is read into `out`.
Result<std::uint64_t> read_shape(const Json& shape, std::size_t size,
                                 std::vector<std::int64_t>& out) {
  if (!shape.is_array() || shape.size() > kMaxRank) {
    return data_loss(fmt::format("shape must be a list of at most {} sizes", kMaxRank));
  }
  std::uint64_t bytes = size;
  for (const Json& dimension : shape) {
    const auto extent = to_size(dimension);
    if (!extent) return data_loss("shape must hold sizes from 0 to 2^63 - 1");
    if (__builtin_mul_overflow(bytes, *extent, &bytes)) {
      return data_loss("shape overflows 64 bits");
    }
    out.push_back(static_cast<std::int64_t>(*extent));
  }
  return bytes;
}

struct DataRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

Result<DataRange> read_range(const Json& offsets, std::uint64_t data_size) {
  if (!offsets.is_array() || offsets.size() != 2) {
    return data_loss("data_offsets must be a list of two offsets");
  }
  const auto begin = to_size(offsets[0]);
  const auto end = to_size(offsets[1]);
  if (!begin || !end || *begin > *end || *end > data_size) {
    return data_loss(fmt::format("data_offsets {} are not inside the {} bytes of data",
                                 offsets.dump(), data_size));
  }
  return DataRange{*begin, *end};
}

// One tensor's description; `data` is what follows the header. Only begin and end of `range` are
// results besides the entry, for the check against the others.
Result<SafetensorsEntry> read_entry(const Json& value, std::span<const std::byte> data,
                                    std::size_t data_start, DataRange& range) {
  if (!value.is_object()) return data_loss("must be an object");
  const auto dtype = value.find("dtype");
  const auto shape = value.find("shape");
  const auto offsets = value.find("data_offsets");
  if (dtype == value.end() || !dtype->is_string() || shape == value.end() ||
      offsets == value.end()) {
    return data_loss("must have dtype, shape and data_offsets");
  }
  SafetensorsEntry entry;
  entry.dtype_text = dtype->get<std::string>();
  const auto known = std::find_if(kFileDTypes.begin(), kFileDTypes.end(),
                                  [&](const FileDType& d) { return d.name == entry.dtype_text; });
  if (known == kFileDTypes.end()) {
    return data_loss(fmt::format("unknown dtype \"{}\"", entry.dtype_text));
  }
  entry.dtype = known->dtype;
  LATENTD_ASSIGN_OR_RETURN(const std::uint64_t bytes, read_shape(*shape, known->size, entry.shape));
  LATENTD_ASSIGN_OR_RETURN(range, read_range(*offsets, data.size()));
  if (range.end - range.begin != bytes) {
    return data_loss(fmt::format("{} needs {} bytes, data_offsets give {}", entry.to_string(),
                                 bytes, range.end - range.begin));
  }
  if ((data_start + range.begin) % known->size != 0) {
    return data_loss(fmt::format("byte {} of the file is not aligned to {}",
                                 data_start + range.begin, entry.dtype_text));
  }
  entry.bytes = data.subspan(range.begin, bytes);
  return entry;
}

Status check_overlap(std::vector<std::pair<DataRange, std::string>>& ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first.begin, a.first.end) < std::pair(b.first.begin, b.first.end);
  });
  for (std::size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].first.begin < ranges[i - 1].first.end) {
      return data_loss(
          fmt::format("tensors \"{}\" and \"{}\" overlap", ranges[i - 1].second, ranges[i].second));
    }
  }
  return ok_status();
}

// The shard names of an index, each checked to be a plain name.
Result<std::map<std::string, std::string>> read_index(const std::filesystem::path& path) {
  LATENTD_ASSIGN_OR_RETURN(const Json document,
                           parse_json_file(path, {.max_bytes = kMaxHeaderBytes}));
  const auto fault = [&](std::string_view reason) {
    return data_loss(fmt::format("{}: {}", path.string(), reason));
  };
  if (!document.is_object() || !document.contains("weight_map") ||
      !document["weight_map"].is_object()) {
    return fault("weight_map must be an object of tensor name -> file name");
  }
  std::map<std::string, std::string> shards;
  for (const auto& [tensor, file] : document["weight_map"].items()) {
    if (!file.is_string()) return fault(fmt::format("\"{}\" must name a file", tensor));
    auto name = file.get<std::string>();
    const bool plain = !name.empty() && name != "." && name.find("..") == std::string::npos &&
                       name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
    if (!plain) {
      return fault(fmt::format("\"{}\": a file name contains no '/' and no \"..\"", tensor));
    }
    shards.emplace(tensor, std::move(name));
  }
  return shards;
}

}  // namespace

std::string SafetensorsEntry::to_string() const {
  return fmt::format("{} [{}]", dtype_text, fmt::join(shape, ", "));
}

Result<SafetensorsTable> parse_safetensors(std::span<const std::byte> file) {
  constexpr std::size_t kLengthBytes = 8;
  if (file.size() < kLengthBytes) return data_loss("shorter than a safetensors header");
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.data(),
              kLengthBytes);  // little-endian, as are the hosts we run on
  if (header_bytes > kMaxHeaderBytes) {
    return data_loss(fmt::format("a header of {} bytes is larger than the limit of {}",
                                 header_bytes, kMaxHeaderBytes));
  }
  if (header_bytes > file.size() - kLengthBytes) {
    return data_loss(fmt::format("the header of {} bytes is truncated", header_bytes));
  }
  const auto header =
      parse_json({reinterpret_cast<const char*>(file.data()) + kLengthBytes, header_bytes},
                 {.max_bytes = kMaxHeaderBytes});
  if (!header.ok()) return data_loss("header: " + header.status().message());
  if (!header->is_object()) return data_loss("the header must be a JSON object");

  const std::size_t data_start = kLengthBytes + header_bytes;
  const auto data = file.subspan(data_start);
  SafetensorsTable table;
  std::vector<std::pair<DataRange, std::string>> ranges;
  for (const auto& [name, value] : header->items()) {
    if (name == kMetadataKey) continue;
    DataRange range;
    auto entry = read_entry(value, data, data_start, range);
    if (!entry.ok()) {
      return data_loss(fmt::format("tensor \"{}\": {}", name, entry.status().message()));
    }
    table.emplace(name, *std::move(entry));
    if (range.begin != range.end) ranges.emplace_back(range, name);
  }
  LATENTD_RETURN_IF_ERROR(check_overlap(ranges));
  return table;
}

Result<Safetensors> Safetensors::open_file(const std::filesystem::path& path) {
  LATENTD_ASSIGN_OR_RETURN(MmapFile file, MmapFile::open(path));
  auto table = parse_safetensors(file.bytes());
  if (!table.ok()) return with_path(path, table.status());
  Safetensors result;
  result.files_.push_back(std::move(file));
  result.table_ = *std::move(table);
  return result;
}

Result<Safetensors> Safetensors::open_directory(const std::filesystem::path& directory) {
  std::error_code error;  // unused: a path that cannot be looked at does not exist for us
  const auto single = directory / "model.safetensors";
  const auto index = directory / "model.safetensors.index.json";
  if (std::filesystem::exists(single, error)) return open_file(single);
  if (std::filesystem::exists(index, error)) return open_shards(directory, index);
  return Status(
      StatusCode::kNotFound,
      directory.string() + ": neither model.safetensors nor model.safetensors.index.json is there");
}

Result<Safetensors> Safetensors::open_shards(const std::filesystem::path& directory,
                                             const std::filesystem::path& index_path) {
  LATENTD_ASSIGN_OR_RETURN(const auto shard_of, read_index(index_path));
  std::set<std::string> names;
  for (const auto& [tensor, shard] : shard_of) names.insert(shard);

  Safetensors result;
  for (const std::string& name : names) {
    LATENTD_ASSIGN_OR_RETURN(Safetensors shard, open_file(directory / name));
    for (auto& [tensor, entry] : shard.table_) {
      if (!result.table_.emplace(tensor, std::move(entry)).second) {
        return data_loss(fmt::format("{}: tensor \"{}\" is in another shard too", name, tensor));
      }
    }
    for (const auto& [tensor, expected] : shard_of) {
      if (expected == name && shard.table_.find(tensor) == shard.table_.end()) {
        return data_loss(fmt::format("{}: tensor \"{}\", which the index promises, is missing",
                                     (directory / name).string(), tensor));
      }
    }
    result.files_.push_back(std::move(shard.files_.front()));
  }
  return result;
}

bool Safetensors::read(const std::byte* from, std::span<std::byte> to) const {
  for (const MmapFile& file : files_) {
    if (file.holds(from)) return file.read(from, to);
  }
  return false;
}

const SafetensorsEntry* Safetensors::find(std::string_view name) const {
  const auto entry = table_.find(name);
  return entry == table_.end() ? nullptr : &entry->second;
}

}  // namespace latentd
