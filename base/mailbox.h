// Mailbox<T>: many producers, one consumer; a bounded queue behind a mutex, drained by swapping.
//
// Contract: `try_push`, `push_always` and `close` from any thread; `drain` and `wait_drain` from
// the one consumer. The bound counts what try_push brought and is not yet drained; push_always
// (cancels) never counts against it.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <utility>
#include <vector>

#include "base/clock.h"

namespace latentd {

template <typename T>
class Mailbox {
 public:
  explicit Mailbox(std::size_t capacity) : capacity_(capacity) {}

  // False when full or closed; `item` is then untouched.
  bool try_push(T&& item) {
    {
      std::lock_guard lock(mutex_);
      if (closed_ || bounded_ >= capacity_) return false;
      ++bounded_;
      items_.push_back(std::move(item));
    }
    ready_.notify_one();
    return true;
  }

  // For what must always get through. False only when closed.
  bool push_always(T&& item) {
    {
      std::lock_guard lock(mutex_);
      if (closed_) return false;
      items_.push_back(std::move(item));
    }
    ready_.notify_one();
    return true;
  }

  // Moves all that is there into `out` (cleared first), in order of arrival. Never blocks.
  void drain(std::vector<T>& out) {
    out.clear();
    std::lock_guard lock(mutex_);
    take(out);
  }

  // As drain, but waits until something is there, the box is closed, or `deadline` passes.
  void wait_drain(std::vector<T>& out, TimePoint deadline = kNever) {
    out.clear();
    std::unique_lock lock(mutex_);
    const auto ready = [this] { return closed_ || !items_.empty(); };
    if (deadline == kNever) {
      ready_.wait(lock, ready);
    } else {
      ready_.wait_until(lock, deadline, ready);
    }
    take(out);
  }

  // Refuses all that comes later and wakes the consumer; what is inside can still be drained.
  void close() {
    {
      std::lock_guard lock(mutex_);
      closed_ = true;
    }
    ready_.notify_all();
  }

  bool closed() const {
    std::lock_guard lock(mutex_);
    return closed_;
  }

 private:
  void take(std::vector<T>& out) {
    out.swap(items_);
    bounded_ = 0;
  }

  const std::size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable ready_;
  std::vector<T> items_;     // guarded by mutex_
  std::size_t bounded_ = 0;  // guarded by mutex_
  bool closed_ = false;      // guarded by mutex_
};

}  // namespace latentd
