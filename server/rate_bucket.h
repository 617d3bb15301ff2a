// RateBucket: a token bucket, for requests and for tokens a minute.
//
// It holds one minute's worth and fills steadily. What is charged afterwards may overdraw it: then
// there is nothing until it has filled again, so the mean is kept exactly. A rate of 0 has no
// limit.
//
// Contract: plain bookkeeping, time is an argument; its user locks.
#pragma once

#include <algorithm>

#include "base/clock.h"

namespace latentd {

class RateBucket final {
 public:
  explicit RateBucket(int per_minute) : per_minute_(per_minute), balance_(per_minute) {}

  // Until `amount` (at most one minute's worth) is there; zero when it is.
  Duration wait_for(double amount, TimePoint now) {
    if (per_minute_ == 0.0) return Duration::zero();
    refill(now);
    const double missing = std::min(amount, per_minute_) - balance_;
    if (missing <= 0.0) return Duration::zero();
    return std::chrono::duration_cast<Duration>(
        std::chrono::duration<double>(missing * 60.0 / per_minute_));
  }

  void charge(double amount, TimePoint now) {
    if (per_minute_ == 0.0) return;
    refill(now);
    balance_ -= amount;
  }

 private:
  void refill(TimePoint now) {
    if (filled_ != TimePoint() && now > filled_) {
      balance_ = std::min(per_minute_, balance_ + to_seconds(now - filled_) * per_minute_ / 60.0);
    }
    filled_ = std::max(filled_, now);
  }

  double per_minute_;
  double balance_;
  TimePoint filled_{};
};

}  // namespace latentd
