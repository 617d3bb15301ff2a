#include "server/trace_context.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <random>

namespace latentd {
namespace {

constexpr std::size_t kLength = 55;  // of version 00; later versions may append "-..."

bool is_hex(std::string_view text) {
  return std::ranges::all_of(
      text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool is_zero(std::string_view text) { return text.find_first_not_of('0') == text.npos; }

std::uint64_t random_bits() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  std::uint64_t bits = 0;
  while (bits == 0) bits = random();
  return bits;
}

}  // namespace

std::string new_span_id() { return fmt::format("{:016x}", random_bits()); }

bool TraceContext::sampled() const {
  constexpr std::string_view kOdd = "13579bdf";
  return !flags.empty() && kOdd.find(flags.back()) != kOdd.npos;
}

TraceContext start_trace(double sample_ratio) {
  TraceContext trace;
  trace.trace_id = fmt::format("{:016x}{:016x}", random_bits(), random_bits());
  trace.span_id = new_span_id();
  const double draw = static_cast<double>(random_bits() >> 11) * 0x1p-53;  // in [0, 1)
  trace.flags = draw < sample_ratio ? "01" : "00";
  return trace;
}

std::optional<TraceContext> parse_traceparent(std::string_view value) {
  if (value.size() < kLength) return std::nullopt;
  const std::string_view version = value.substr(0, 2);
  const std::string_view trace = value.substr(3, 32);
  const std::string_view parent = value.substr(36, 16);
  const std::string_view flags = value.substr(53, 2);
  if (value[2] != '-' || value[35] != '-' || value[52] != '-') return std::nullopt;
  if (!is_hex(version) || !is_hex(trace) || !is_hex(parent) || !is_hex(flags)) return std::nullopt;
  if (version == "ff" || is_zero(trace) || is_zero(parent)) return std::nullopt;
  if (value.size() > kLength && (version == "00" || value[kLength] != '-')) return std::nullopt;
  return TraceContext{std::string(trace), std::string(parent), new_span_id(), std::string(flags)};
}

}  // namespace latentd
