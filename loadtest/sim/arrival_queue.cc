#include "loadtest/sim/arrival_queue.h"

#include <algorithm>

namespace latentd::loadtest {
namespace {

TimePoint after(TimePoint begin, double seconds) {
  return begin + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

}  // namespace

ArrivalQueue::ArrivalQueue(const std::vector<SimRequest>& requests, int users, double end_s)
    : requests_(requests),
      closed_(users > 0),
      end_(end_s > 0.0 ? after(TimePoint{}, end_s) : kNever) {
  skip_turns();
  for (int user = 0; user < users; ++user) take_session(TimePoint{});
}

void ArrivalQueue::skip_turns() {
  while (session_ < requests_.size() && !requests_[session_].first_turn) ++session_;
}

TimePoint ArrivalQueue::next_open() const {
  if (closed_ || session_ >= requests_.size()) return kNever;
  const TimePoint at = after(TimePoint{}, requests_[session_].at_seconds);
  return at < end_ ? at : kNever;
}

TimePoint ArrivalQueue::next_time() const {
  return due_.empty() ? next_open() : std::min(due_.top().first, next_open());
}

std::size_t ArrivalQueue::pop() {
  if (!due_.empty() && due_.top().first <= next_open()) {
    const std::size_t index = due_.top().second;
    due_.pop();
    return index;
  }
  const std::size_t index = session_++;
  skip_turns();
  return index;
}

void ArrivalQueue::push(TimePoint at, std::size_t index) {
  if (at < end_) due_.emplace(at, index);
}

void ArrivalQueue::take_session(TimePoint at) {
  if (session_ >= requests_.size()) return;
  push(at, session_++);
  skip_turns();
}

void ArrivalQueue::on_end(std::size_t index, TimePoint now) {
  const SimRequest& request = requests_[index];
  if (request.next_turn >= 0) {
    push(after(now, request.think_s), static_cast<std::size_t>(request.next_turn));
  } else if (closed_) {
    take_session(now);
  }
}

}  // namespace latentd::loadtest
