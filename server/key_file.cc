// The file half of api_keys.h: YAML entries to and from KeyEntry.

#include <spdlog/fmt/fmt.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <iterator>
#include <optional>
#include <set>

#include "server/api_keys.h"

namespace latentd {
namespace {

constexpr int kMaxRate = 1'000'000'000;
constexpr int kMaxPriority = 1'000'000;
constexpr std::size_t kMaxTenant = 64;

std::optional<Sha256> digest_of_hex(const std::string& text) {
  Sha256 digest{};
  if (text.size() != 2 * digest.size()) return std::nullopt;
  const auto value = [](char c) {
    return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;  // of a hex digit
  };
  if (!std::ranges::all_of(text, [](unsigned char c) { return std::isxdigit(c) != 0; })) {
    return std::nullopt;
  }
  for (std::size_t i = 0; i < digest.size(); ++i) {
    digest[i] = static_cast<std::uint8_t>(value(text[2 * i]) * 16 + value(text[2 * i + 1]));
  }
  return digest;
}

bool is_name(const std::string& text) {
  return !text.empty() && text.size() <= kMaxTenant &&
         std::ranges::all_of(text, [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
         });
}

Status wrong(const std::string& field, std::string message) {
  return invalid_argument(field, std::move(message));
}

Status read_number(const std::string& field, const YAML::Node& value, int low, int high,
                   int& target) {
  int number = 0;
  if (!value.IsScalar() || !YAML::convert<int>::decode(value, number) || number < low ||
      number > high) {
    return wrong(field, fmt::format("must be a whole number between {} and {}", low, high));
  }
  target = number;
  return ok_status();
}

Status read_field(const std::string& field, const YAML::Node& value, KeyEntry& entry,
                  bool& has_digest) {
  if (field == "sha256") {
    const auto digest = value.IsScalar() ? digest_of_hex(value.Scalar()) : std::nullopt;
    if (!digest) return wrong(field, "must be 64 hex digits");
    entry.digest = *digest;
    has_digest = true;
    return ok_status();
  }
  if (field == "tenant") {
    if (!value.IsScalar() || !is_name(value.Scalar())) {
      return wrong(field, "must be 1 to 64 letters, digits, `.`, `_` or `-`");
    }
    entry.policy.tenant = value.Scalar();
    return ok_status();
  }
  KeyPolicy& policy = entry.policy;
  if (field == "requests-per-minute") {
    return read_number(field, value, 0, kMaxRate, policy.requests_per_minute);
  }
  if (field == "tokens-per-minute") {
    return read_number(field, value, 0, kMaxRate, policy.tokens_per_minute);
  }
  if (field == "max-concurrent") {
    return read_number(field, value, 0, kMaxRate, policy.max_concurrent);
  }
  if (field == "priority") {
    return read_number(field, value, -kMaxPriority, kMaxPriority, policy.priority);
  }
  return wrong(field, "is no field of a key");
}

Result<KeyEntry> read_entry(const YAML::Node& node) {
  if (!node.IsMap()) return Status(StatusCode::kInvalidArgument, "must be a mapping");
  KeyEntry entry;
  bool has_digest = false;
  std::set<std::string> seen;
  for (const auto& item : node) {
    const std::string field = item.first.IsScalar() ? item.first.Scalar() : "?";
    if (!seen.insert(field).second) return wrong(field, "is given twice");
    LATENTD_RETURN_IF_ERROR(read_field(field, item.second, entry, has_digest));
  }
  if (!has_digest) return wrong("sha256", "is required");
  if (entry.policy.tenant.empty())
    entry.policy.tenant = "key-" + hex_of(entry.digest).substr(0, 12);
  return entry;
}

Result<std::vector<KeyEntry>> read_entries(const YAML::Node& root) {
  std::vector<KeyEntry> entries;
  if (root.IsNull()) return entries;
  if (!root.IsSequence()) return Status(StatusCode::kInvalidArgument, "must be a list of keys");
  std::set<Sha256> digests;
  for (const auto& node : root) {
    auto entry = read_entry(node);
    const std::size_t number = entries.size() + 1;
    if (!entry.ok()) {
      const Status& why = entry.status();
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("key {}: {}{}{}", number, why.field(),
                                why.field().empty() ? "" : " ", why.message()));
    }
    if (!digests.insert(entry->digest).second) {
      return Status(StatusCode::kInvalidArgument, fmt::format("key {}: is there twice", number));
    }
    entries.push_back(*std::move(entry));
  }
  return entries;
}

}  // namespace

Result<std::vector<KeyEntry>> read_key_file(const std::filesystem::path& path) {
  std::error_code ignored;
  std::ifstream file(path, std::ios::binary);
  if (!std::filesystem::is_regular_file(path, ignored) || !file) {
    return Status(StatusCode::kNotFound, "cannot read the key file " + path.string());
  }
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const std::string prefix = path.string() + ": ";
  try {
    auto entries = read_entries(YAML::Load(text));
    if (entries.ok()) return entries;
    return Status(StatusCode::kInvalidArgument, prefix + entries.status().message());
  } catch (const YAML::Exception& error) {
    return Status(StatusCode::kInvalidArgument, prefix + error.what());
  }
}

std::string key_file_line(const KeyEntry& entry) {
  const KeyPolicy& policy = entry.policy;
  std::string line = "- {sha256: " + hex_of(entry.digest);
  if (!policy.tenant.empty()) line += ", tenant: " + policy.tenant;
  const auto add = [&line](const char* name, int value) {
    if (value != 0) line += fmt::format(", {}: {}", name, value);
  };
  add("requests-per-minute", policy.requests_per_minute);
  add("tokens-per-minute", policy.tokens_per_minute);
  add("max-concurrent", policy.max_concurrent);
  add("priority", policy.priority);
  return line + "}";
}

}  // namespace latentd
