#include "loadtest/trace.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace latentd::loadtest {
namespace {

constexpr int kMaxTokens = 10'000'000;

Status bad_line(std::size_t line, const std::string& what) {
  return invalid_argument("trace", "line " + std::to_string(line) + ": " + what);
}

std::optional<int> to_int(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Calls use(line number, line) for every line that is not empty, until one fails.
template <typename Use>
Status for_each_line(std::string_view text, Use use) {
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    LATENTD_RETURN_IF_ERROR(use(number, line));
  }
  return ok_status();
}

// "2023-11-16 18:17:03.9799600" (also with 'T'), as seconds since 1970.
std::optional<double> parse_timestamp(std::string_view text) {
  if (text.size() < 19 || text[4] != '-' || text[7] != '-' || text[13] != ':' || text[16] != ':') {
    return std::nullopt;
  }
  const auto year = to_int(text.substr(0, 4));
  const auto month = to_int(text.substr(5, 2));
  const auto day = to_int(text.substr(8, 2));
  const auto hour = to_int(text.substr(11, 2));
  const auto minute = to_int(text.substr(14, 2));
  const auto second = to_int(text.substr(17, 2));
  if (!year || !month || !day || !hour || !minute || !second) return std::nullopt;
  const std::chrono::year_month_day date(std::chrono::year(*year),
                                         std::chrono::month(static_cast<unsigned>(*month)),
                                         std::chrono::day(static_cast<unsigned>(*day)));
  if (!date.ok() || *hour > 23 || *minute > 59 || *second > 60) return std::nullopt;
  double fraction = 0.0;
  double unit = 0.1;
  std::string_view rest = text.substr(19);
  if (!rest.empty() && rest.front() == '.') rest.remove_prefix(1);
  for (const char c : rest) {
    if (c < '0' || c > '9') return std::nullopt;
    fraction += unit * (c - '0');
    unit /= 10.0;
  }
  const auto days = std::chrono::sys_days(date).time_since_epoch().count();
  return static_cast<double>(days) * 86400.0 + *hour * 3600.0 + *minute * 60.0 + *second + fraction;
}

Status check_lengths(std::size_t line, TraceEntry& entry) {
  if (entry.prompt_tokens < 1 || entry.prompt_tokens > kMaxTokens) {
    return bad_line(line, "the prompt's tokens must be 1 to 10000000, got " +
                              std::to_string(entry.prompt_tokens));
  }
  if (entry.output_tokens < 0 || entry.output_tokens > kMaxTokens) {
    return bad_line(line, "the generated tokens must be 0 to 10000000, got " +
                              std::to_string(entry.output_tokens));
  }
  entry.output_tokens = std::max(entry.output_tokens, 1);
  return ok_status();
}

Result<std::vector<TraceEntry>> finish(std::vector<TraceEntry> entries) {
  if (entries.empty()) return invalid_argument("trace", "has no requests");
  double latest = entries.front().at_seconds;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].at_seconds < latest - 1.0) {
      return invalid_argument(
          "trace", "request " + std::to_string(i + 1) + " is more than a second before another");
    }
    latest = std::max(latest, entries[i].at_seconds);
  }
  std::ranges::stable_sort(entries, {}, &TraceEntry::at_seconds);
  const double first = entries.front().at_seconds;
  for (TraceEntry& entry : entries) entry.at_seconds -= first;
  return entries;
}

}  // namespace

Result<std::vector<TraceEntry>> parse_csv_trace(std::string_view text) {
  std::vector<TraceEntry> entries;
  bool header = true;
  const Status status = for_each_line(text, [&](std::size_t number, std::string_view line) {
    if (header) {
      header = false;
      if (line == "TIMESTAMP,ContextTokens,GeneratedTokens") return ok_status();
      return bad_line(number, "the header must be TIMESTAMP,ContextTokens,GeneratedTokens");
    }
    const std::size_t first = line.find(',');
    const std::size_t second = first == line.npos ? line.npos : line.find(',', first + 1);
    if (second == line.npos) return bad_line(number, "must have three fields");
    const auto at = parse_timestamp(line.substr(0, first));
    const auto prompt = to_int(line.substr(first + 1, second - first - 1));
    const auto output = to_int(line.substr(second + 1));
    if (!at) return bad_line(number, "TIMESTAMP must look like 2023-11-16 18:17:03.97");
    if (!prompt) return bad_line(number, "ContextTokens must be a whole number");
    if (!output) return bad_line(number, "GeneratedTokens must be a whole number");
    TraceEntry entry{*at, *prompt, *output, {}};
    LATENTD_RETURN_IF_ERROR(check_lengths(number, entry));
    entries.push_back(std::move(entry));
    return ok_status();
  });
  if (!status.ok()) return status;
  return finish(std::move(entries));
}

Result<std::vector<TraceEntry>> parse_jsonl_trace(std::string_view text) {
  std::vector<TraceEntry> entries;
  const Status status = for_each_line(text, [&](std::size_t number, std::string_view line) {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (!json.is_object()) return bad_line(number, "must be a JSON object");
    const auto numeric = [&](const char* name) {
      return json.contains(name) && json[name].is_number();
    };
    if (!numeric("timestamp")) return bad_line(number, "timestamp must be a number (ms)");
    if (!numeric("input_length")) return bad_line(number, "input_length must be a number");
    if (!numeric("output_length")) return bad_line(number, "output_length must be a number");
    TraceEntry entry;
    entry.at_seconds = json["timestamp"].get<double>() * 1e-3;
    entry.prompt_tokens = json["input_length"].get<int>();
    entry.output_tokens = json["output_length"].get<int>();
    LATENTD_RETURN_IF_ERROR(check_lengths(number, entry));
    if (json.contains("hash_ids")) {
      if (!json["hash_ids"].is_array()) return bad_line(number, "hash_ids must be a list");
      for (const auto& id : json["hash_ids"]) {
        if (!id.is_number_integer()) return bad_line(number, "hash_ids must be whole numbers");
        entry.blocks.push_back(id.get<std::uint64_t>());
      }
    }
    entries.push_back(std::move(entry));
    return ok_status();
  });
  if (!status.ok()) return status;
  return finish(std::move(entries));
}

Result<std::vector<TraceEntry>> read_trace(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return invalid_argument("trace", "cannot read " + path.string());
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (path.extension() == ".jsonl") return parse_jsonl_trace(text);
  return parse_csv_trace(text);
}

}  // namespace latentd::loadtest
