#include "base/check.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <cstdlib>

namespace latentd {

void check_failed(const char* file, int line, const char* expression, std::string_view detail) {
  spdlog::default_logger()->flush();
  fmt::print(stderr, "{}:{}: check failed: {}: {}\n", file, line, expression, detail);
  std::fflush(stderr);
  std::abort();
}

}  // namespace latentd
