#include "loadtest/worker.h"

#include <algorithm>

namespace latentd::loadtest {
namespace {

constexpr auto kMostWait = std::chrono::milliseconds(100);  // so that `stop` is seen

Duration seconds(double value) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(value));
}

}  // namespace

Worker::Worker(const Scenario& scenario, const std::vector<PlannedRequest>& plan,
               const std::vector<std::size_t>& sessions, SessionCounter& next_session,
               const WorkerShare& share, Transport& transport)
    : scenario_(scenario),
      plan_(plan),
      sessions_(sessions),
      next_session_(next_session),
      share_(share),
      transport_(transport),
      next_open_(static_cast<std::size_t>(share.thread)) {}

bool Worker::past_end(TimePoint now) const {
  return scenario_.duration_s > 0.0 && now >= share_.start + seconds(scenario_.duration_s);
}

TimePoint Worker::planned_time(std::size_t session) const {
  return share_.start + seconds(plan_[sessions_[session]].at_seconds);
}

void Worker::begin_users() {
  for (int user = share_.thread; user < scenario_.concurrency; user += share_.num_threads) {
    take_session(share_.start);
  }
}

void Worker::take_session(TimePoint at) {
  const std::size_t session = next_session_.fetch_add(1);
  // Without a number of requests, only time ends a closed loop: begin again from the first.
  if (scenario_.requests > 0 && session >= sessions_.size()) return;
  due_.push({at, sessions_[session % sessions_.size()]});
}

void Worker::follow_up(std::size_t index, TimePoint now) {
  const PlannedRequest& request = plan_[index];
  if (past_end(now)) return;
  if (request.next_turn >= 0) {
    const Tenant& tenant = scenario_.tenants[static_cast<std::size_t>(request.tenant)];
    due_.push({now + seconds(tenant.think_s), static_cast<std::size_t>(request.next_turn)});
  } else if (closed()) {
    take_session(now);
  }
}

void Worker::send_due(TimePoint now) {
  if (!closed()) {
    while (next_open_ < sessions_.size() && planned_time(next_open_) <= now) {
      transport_.start(sessions_[next_open_], planned_time(next_open_));
      next_open_ += static_cast<std::size_t>(share_.num_threads);
    }
  }
  while (!due_.empty() && due_.top().at <= now) {
    const Due due = due_.top();
    due_.pop();
    if (!past_end(now)) transport_.start(due.index, due.at);
  }
}

TimePoint Worker::next_due() const {
  TimePoint next = kNever;
  if (!closed() && next_open_ < sessions_.size()) next = planned_time(next_open_);
  if (!due_.empty()) next = std::min(next, due_.top().at);
  return next;
}

void Worker::run(const std::atomic<bool>& stop) {
  if (closed()) begin_users();
  while (true) {
    if (stop.load(std::memory_order_relaxed)) {
      transport_.abort_all("interrupted");
      return;
    }
    send_due(steady_now());
    const TimePoint next = next_due();
    if (next == kNever && transport_.in_flight() == 0) {
      // What ended while sending (a refused connection) may still have followers.
      const auto finished = transport_.take_finished();
      if (finished.empty()) return;
      for (const std::size_t index : finished) follow_up(index, steady_now());
      continue;
    }
    transport_.wait(std::min(next, steady_now() + kMostWait));
    const TimePoint now = steady_now();
    for (const std::size_t index : transport_.take_finished()) follow_up(index, now);
  }
}

}  // namespace latentd::loadtest
