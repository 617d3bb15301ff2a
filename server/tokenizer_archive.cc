#include "server/tokenizer_archive.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <boost/crc.hpp>
#include <cstdint>
#include <string_view>
#include <system_error>

#include "engine/model/json.h"
#include "server/sha256.h"

namespace latentd {
namespace {

using Files = std::vector<std::pair<std::string, std::string>>;

constexpr std::array<std::string_view, 10> kNames = {
    "added_tokens.json", "chat_template.json",      "config.json",    "generation_config.json",
    "merges.txt",        "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json",
    "vocab.json",        "tokenizer.model"};
constexpr std::array<std::string_view, 3> kEndings = {".jinja", ".model", ".tiktoken"};
constexpr std::size_t kMaxFileBytes = std::size_t{64} << 20;  // as of a tokenizer.json that we load

bool belongs(std::string_view name) {
  return std::ranges::find(kNames, name) != kNames.end() ||
         std::ranges::any_of(kEndings, [name](auto ending) { return name.ends_with(ending); });
}

// Little-endian fields one after another, as the format has them (APPNOTE.TXT 6.3.10, 4.3).
class Record final {
 public:
  explicit Record(std::string& out) : out_(out) {}

  Record& two(std::uint32_t value) { return bytes(value, 2); }
  Record& four(std::uint32_t value) { return bytes(value, 4); }
  Record& text(std::string_view value) {
    out_ += value;
    return *this;
  }

 private:
  Record& bytes(std::uint32_t value, int count) {
    for (int i = 0; i < count; ++i) out_ += static_cast<char>(value >> (8 * i) & 0xFFU);
    return *this;
  }

  std::string& out_;
};

constexpr std::uint32_t kVersion = 10;           // 1.0: no feature is used
constexpr std::uint32_t kMidnight1980 = 0x0021;  // the first day; equal files make equal archives

std::uint32_t crc_of(const std::string& contents) {
  boost::crc_32_type crc;
  crc.process_bytes(contents.data(), contents.size());
  return crc.checksum();
}

// What the local header and the directory say alike.
void describe(Record& record, const std::string& name, const std::string& contents) {
  const auto size = static_cast<std::uint32_t>(contents.size());
  record.two(kVersion).two(0).two(0);  // needed, flags, stored
  record.two(0).two(kMidnight1980).four(crc_of(contents)).four(size).four(size);
  record.two(static_cast<std::uint32_t>(name.size())).two(0);  // no extra field
}

Result<Files> read_files(const std::filesystem::path& directory) {
  Files files;
  std::error_code error;
  for (auto entry = std::filesystem::directory_iterator(directory, error);
       !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    std::error_code ignored;
    std::string name = entry->path().filename().string();
    if (!belongs(name) || !entry->is_regular_file(ignored)) continue;
    LATENTD_ASSIGN_OR_RETURN(std::string contents, read_text_file(entry->path(), kMaxFileBytes));
    files.emplace_back(std::move(name), std::move(contents));
  }
  if (files.empty()) {
    return Status(StatusCode::kNotFound, "the model's directory has no tokenizer files any more");
  }
  std::ranges::sort(files);
  return files;
}

}  // namespace

std::string zip_of(const std::vector<std::pair<std::string, std::string>>& files) {
  std::string out;
  std::string directory;
  for (const auto& [name, contents] : files) {
    const auto offset = static_cast<std::uint32_t>(out.size());
    Record local(out);
    local.four(0x04034b50);
    describe(local, name, contents);
    local.text(name).text(contents);

    Record entry(directory);
    entry.four(0x02014b50).two(kVersion);
    describe(entry, name, contents);
    entry.two(0).two(0).two(0).four(0).four(offset).text(name);  // comment, disk, attributes
  }
  const auto offset = static_cast<std::uint32_t>(out.size());
  const auto count = static_cast<std::uint32_t>(files.size());
  out += directory;
  Record(out).four(0x06054b50).two(0).two(0).two(count).two(count);
  Record(out).four(static_cast<std::uint32_t>(directory.size())).four(offset).two(0);
  return out;
}

Result<std::shared_ptr<const ArchiveBytes>> TokenizerArchive::of(
    const std::filesystem::path& directory) {
  const std::lock_guard lock(mutex_);
  if (made_ != nullptr) return made_;
  LATENTD_ASSIGN_OR_RETURN(const auto files, read_files(directory));
  auto made = std::make_shared<ArchiveBytes>();
  made->zip = zip_of(files);
  made->sha256 = hex_of(sha256_of(made->zip));
  made_ = std::move(made);
  return made_;
}

}  // namespace latentd
