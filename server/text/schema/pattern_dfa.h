// A pattern, with bounds on the length, as a byte automaton over JSON strings (quotes included).
//
// A character has one spelling: the canonical one of json_string.h.
// Contract: pure functions. kInvalidArgument beyond the limits below: work and memory are bounded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "server/text/schema/dfa.h"

namespace latentd {

inline constexpr std::size_t kMaxPatternNfa = 8192;     // states
inline constexpr std::size_t kMaxPatternStates = 4096;  // of the automaton over characters
inline constexpr std::size_t kMaxPatternWork = std::size_t{8} << 20;

inline constexpr std::uint32_t kNoLimit = 0xFFFFFFFF;

// Strings in which the pattern is found, of min_length to max_length (kNoLimit: any) characters.
Result<DraftDfa> pattern_dfa(std::string_view pattern, std::uint32_t min_length,
                             std::uint32_t max_length);

// The pattern of a "format", or nothing when it is not known. Known: date, time, date-time (RFC
// 3339, years 1000 to 9999, seconds to 59), uuid, email (plain addresses), ipv4, ipv6 (in full),
// hostname, uri (with a host), duration (days and less, or weeks).
std::optional<std::string_view> format_pattern(std::string_view format);

}  // namespace latentd
