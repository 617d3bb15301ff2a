#include "loadtest/sim/bench_csv.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <string>

namespace latentd::loadtest {
namespace {

enum Column : std::size_t { kPhase, kRows, kTokens, kContext, kMs, kNumColumns };
constexpr std::array<std::string_view, kNumColumns> kNames = {"phase", "rows", "tokens", "context",
                                                              "ms"};

using Places = std::array<std::size_t, kNumColumns>;

Status bad_line(std::size_t number, const std::string& what) {
  return invalid_argument("bench", "line " + std::to_string(number) + ": " + what);
}

std::vector<std::string_view> split(std::string_view line) {
  std::vector<std::string_view> fields;
  while (true) {
    const std::size_t comma = line.find(',');
    fields.push_back(line.substr(0, comma));
    if (comma == line.npos) return fields;
    line.remove_prefix(comma + 1);
  }
}

bool to_double(std::string_view text, double& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

Result<Places> find_columns(std::size_t number, const std::vector<std::string_view>& header) {
  Places places{};
  for (std::size_t i = 0; i < kNumColumns; ++i) {
    const auto found = std::ranges::find(header, kNames[i]);
    if (found == header.end()) {
      return bad_line(number, "the header has no column '" + std::string(kNames[i]) + "'");
    }
    places[i] = static_cast<std::size_t>(found - header.begin());
  }
  return places;
}

Result<Measurement> parse_row(std::size_t number, const std::vector<std::string_view>& fields,
                              const Places& places, int chunk, double routed_share) {
  std::array<double, kNumColumns> values{};
  for (std::size_t i = kRows; i < kNumColumns; ++i) {
    if (places[i] >= fields.size() || !to_double(fields[places[i]], values[i])) {
      return bad_line(number, std::string(kNames[i]) + " must be a number");
    }
  }
  if (values[kMs] <= 0.0 || values[kRows] < 1.0) {
    return bad_line(number, "ms must be above 0 and rows at least 1");
  }
  Measurement measured;
  measured.seconds = values[kMs] * 1e-3;
  const double rows = values[kRows];
  const std::string_view phase = fields[places[kPhase]];
  if (phase == "mixed" && values[kTokens] <= rows) {
    return bad_line(number, "a mixed step must have more tokens than rows");
  }
  if (phase == "decode" || phase == "mixed") {
    measured.work.decode_rows = rows;
    measured.work.decode_pairs = rows * (values[kContext] + 1.0);
    measured.work.crowd_pairs = crowd_pairs(measured.work.decode_pairs, rows);
    measured.work.prefill_tokens = std::max(0.0, values[kTokens] - rows);
    measured.work.prefill_pairs = piece_pairs(0.0, measured.work.prefill_tokens);
    measured.work.experts = experts_read(routed_share, values[kTokens]);
    return measured;
  }
  if (phase != "prefill") return bad_line(number, "the phase must be decode, mixed or prefill");
  measured.work.prefill_tokens = values[kTokens];
  measured.work.steps = std::ceil(values[kTokens] / chunk);
  const double last = values[kTokens] - (measured.work.steps - 1.0) * chunk;
  measured.work.experts = (measured.work.steps - 1.0) * experts_read(routed_share, chunk) +
                          experts_read(routed_share, last);
  measured.work.prefill_pairs = rows * piece_pairs(0.0, values[kTokens] / rows);
  return measured;
}

}  // namespace

Result<std::vector<Measurement>> parse_bench_csv(std::string_view text, int chunk,
                                                 double routed_share) {
  std::vector<Measurement> measurements;
  Places places{};
  bool header = true;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty()) continue;
    if (header) {
      LATENTD_ASSIGN_OR_RETURN(places, find_columns(number, split(line)));
      header = false;
      continue;
    }
    LATENTD_ASSIGN_OR_RETURN(const Measurement measured,
                             parse_row(number, split(line), places, chunk, routed_share));
    measurements.push_back(measured);
  }
  return measurements;
}

}  // namespace latentd::loadtest
