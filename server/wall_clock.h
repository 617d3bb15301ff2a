// The wall clock, for what people and Prometheus read; everything else asks steady_now().
#pragma once

#include <chrono>

namespace latentd {

inline double wall_seconds_now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace latentd
