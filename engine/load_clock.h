// LoadClock: what a start consists of, part after part.
//
// Contract: one thread. The parts are disjoint and together the whole time since the beginning.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"

namespace latentd {

struct LoadPart {
  std::string name;  // "graphs"
  Duration time{};
};

class LoadClock {
 public:
  explicit LoadClock(TimePoint begin) : last_(begin) {}

  // What was done since the part before ended at `now`.
  void ended(std::string_view name, TimePoint now) {
    parts_.push_back({std::string(name), now - last_});
    last_ = now;
  }
  void ended(std::string_view name) { ended(name, steady_now()); }

  const std::vector<LoadPart>& parts() const { return parts_; }

 private:
  TimePoint last_;
  std::vector<LoadPart> parts_;
};

}  // namespace latentd
