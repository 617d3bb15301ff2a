// LoadProgress: shows how far a long copy has come: a bar on a terminal, else a log line a second.
//
//   weights [##########----------]  50 %  1.20 of 2.40 GB, 3.1 GB/s
//
// Contract: one thread. The end is always shown.
#pragma once

#include <cstddef>
#include <string>

#include "base/clock.h"

namespace latentd {

// REQUIRES: done <= total.
std::string progress_text(std::size_t done, std::size_t total, double seconds);  // without the bar
std::string progress_bar(std::size_t done, std::size_t total, double seconds);

class LoadProgress final {
 public:
  LoadProgress();

  void show(std::size_t done, std::size_t total);

 private:
  const bool terminal_;
  const TimePoint begin_;
  TimePoint shown_;
};

}  // namespace latentd
