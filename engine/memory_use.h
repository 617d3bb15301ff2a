// MemoryUse: what memory is used for, in logs and metrics.
#pragma once

#include <cstddef>
#include <string>

namespace latentd {

struct MemoryUse {
  std::string purpose;  // "weights"
  std::size_t bytes = 0;
};

}  // namespace latentd
