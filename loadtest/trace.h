// Traces: recorded arrivals with lengths, read from files.
//
// CSV, as Azure published them in 2023: the header TIMESTAMP,ContextTokens,GeneratedTokens, then
// lines such as `2023-11-16 18:17:03.9799600,4808,10`.
// JSONL, as Mooncake published theirs: {"timestamp": milliseconds, "input_length": tokens,
// "output_length": tokens, "hash_ids": [id of each 512-token block of the prompt]}; equal ids are
// equal blocks, so shared prefixes come back as they were. hash_ids may be missing.
//
// Errors: kInvalidArgument naming the line and the field; a trace is taken whole or not at all.
// Times start at 0 with the first line and may not fall by more than a second (real traces are
// sorted by arrival; small disorder is put in order).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace latentd::loadtest {

inline constexpr int kTraceBlockTokens = 512;

struct TraceEntry {
  double at_seconds = 0.0;
  int prompt_tokens = 0;              // at least 1
  int output_tokens = 0;              // at least 1: 0 in a trace becomes 1
  std::vector<std::uint64_t> blocks;  // of kTraceBlockTokens tokens each, the last may be shorter
};

Result<std::vector<TraceEntry>> parse_csv_trace(std::string_view text);
Result<std::vector<TraceEntry>> parse_jsonl_trace(std::string_view text);
// By the file's extension: .jsonl or .csv.
Result<std::vector<TraceEntry>> read_trace(const std::filesystem::path& path);

}  // namespace latentd::loadtest
