// ArrivalQueue: which request the simulated clients send next, and when; the rules of the load
// test's Worker, without a clock.
//
// Contract: plain bookkeeping. `requests` outlives it.
#pragma once

#include <functional>
#include <queue>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "loadtest/sim/simulator.h"

namespace latentd::loadtest {

class ArrivalQueue final {
 public:
  // users = 0: an open loop. end_s > 0: nothing is sent from then on.
  ArrivalQueue(const std::vector<SimRequest>& requests, int users, double end_s);

  bool empty() const { return next_time() == kNever; }
  TimePoint next_time() const;  // kNever: nothing to send
  // The next request. REQUIRES: not empty().
  std::size_t pop();
  // The answer to `index` is over: its next turn follows, or in a closed loop its user's next
  // session.
  void on_end(std::size_t index, TimePoint now);

 private:
  using Due = std::pair<TimePoint, std::size_t>;

  TimePoint next_open() const;
  void push(TimePoint at, std::size_t index);
  void take_session(TimePoint at);
  void skip_turns();

  const std::vector<SimRequest>& requests_;
  const bool closed_;
  const TimePoint end_;
  std::size_t session_ = 0;  // the next first turn
  std::priority_queue<Due, std::vector<Due>, std::greater<>> due_;
};

}  // namespace latentd::loadtest
