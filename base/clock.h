// Time as an argument: the core never reads a clock, its callers pass steady_now() in.
#pragma once

#include <chrono>

namespace latentd {

using Duration = std::chrono::steady_clock::duration;
using TimePoint = std::chrono::steady_clock::time_point;

// "No deadline".
inline constexpr TimePoint kNever = TimePoint::max();

inline TimePoint steady_now() { return std::chrono::steady_clock::now(); }

inline double to_seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace latentd
