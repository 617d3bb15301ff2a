// Worker: sends one thread's share of a plan at its times, through one transport.
//
// Open loop: a session goes out when the plan says so, whatever the answers do. Closed loop: each
// of the thread's users takes the next session of the plan when the one before is over. Later turns
// of a session go out `think_s` after the answer to the turn before.
//
// Contract: run() returns when everything sent has ended. `stop` may be set by any thread: then
// nothing more is sent and what is in flight is broken off.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <queue>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "loadtest/plan.h"
#include "loadtest/transport.h"

namespace latentd::loadtest {

struct WorkerShare {
  int thread = 0;
  int num_threads = 1;
  TimePoint start{};
};

// Which session of a closed loop comes next, for all threads.
using SessionCounter = std::atomic<std::size_t>;

class Worker final {
 public:
  // `sessions`: indices of the plan's first turns, in order. All outlive the worker.
  Worker(const Scenario& scenario, const std::vector<PlannedRequest>& plan,
         const std::vector<std::size_t>& sessions, SessionCounter& next_session,
         const WorkerShare& share, Transport& transport);

  void run(const std::atomic<bool>& stop);

 private:
  struct Due {
    TimePoint at;
    std::size_t index;
    bool operator>(const Due& other) const { return at > other.at; }
  };

  bool closed() const { return scenario_.process == Process::kClosed; }
  bool past_end(TimePoint now) const;
  void begin_users();
  void take_session(TimePoint at);
  void send_due(TimePoint now);
  void follow_up(std::size_t index, TimePoint now);
  TimePoint next_due() const;
  TimePoint planned_time(std::size_t session) const;

  const Scenario& scenario_;
  const std::vector<PlannedRequest>& plan_;
  const std::vector<std::size_t>& sessions_;
  SessionCounter& next_session_;
  const WorkerShare share_;
  Transport& transport_;
  std::size_t next_open_;  // position in sessions_, open loop
  std::priority_queue<Due, std::vector<Due>, std::greater<>> due_;  // users and later turns
};

}  // namespace latentd::loadtest
