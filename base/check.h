// LATENTD_CHECK: ends the process when one of our own invariants is broken.
//
// Never for bad input: what a caller or the environment can cause is a Status. Always on, in every
// build.
#pragma once

#include <spdlog/fmt/fmt.h>

#include <string_view>

namespace latentd {

// Flushes the log, writes `file:line: check failed: expression: detail` to stderr and aborts.
[[noreturn]] void check_failed(const char* file, int line, const char* expression,
                               std::string_view detail);

}  // namespace latentd

// LATENTD_CHECK(condition, "format {}", args...): the text says what was expected.
#define LATENTD_CHECK(condition, ...)                                                      \
  do {                                                                                     \
    if (!(condition)) [[unlikely]] {                                                       \
      ::latentd::check_failed(__FILE__, __LINE__, #condition, ::fmt::format(__VA_ARGS__)); \
    }                                                                                      \
  } while (false)
