// Inbox: what the engine told each request, for tests that run the real engine.
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/status.h"
#include "engine/engine.h"

namespace latentd {

// How long a test waits for what must come.
inline constexpr Duration kTestPatience = std::chrono::seconds(60);

// Collects events as a server would, and lets a test wait for what it expects.
class Inbox {
 public:
  struct Thread {
    std::vector<TokenId> tokens;
    std::vector<Event::Kind> kinds;
    bool finished = false;
    FinishReason reason = FinishReason::kStop;
    Status error;
  };

  EventSink sink() {
    return [this](std::span<Event> events) {
      {
        std::lock_guard lock(mutex_);
        for (const Event& event : events) take(event);
      }
      changed_.notify_all();
    };
  }

  // What came for `id` until its last event.
  Thread wait_finished(std::uint64_t id) {
    return wait(id, [](const Thread& thread) { return thread.finished; });
  }
  Thread wait_tokens(std::uint64_t id, std::size_t count) {
    return wait(id, [count](const Thread& thread) { return thread.tokens.size() >= count; });
  }

 private:
  template <typename Predicate>
  Thread wait(std::uint64_t id, Predicate predicate) {
    std::unique_lock lock(mutex_);
    const bool met =
        changed_.wait_for(lock, kTestPatience, [&] { return predicate(threads_[id]); });
    EXPECT_TRUE(met) << "request " << id;
    return threads_[id];
  }

  void take(const Event& event) {
    Thread& thread = threads_[event.request.value()];
    EXPECT_FALSE(thread.finished) << "an event after the last one";
    thread.kinds.push_back(event.kind);
    if (event.kind == Event::Kind::kToken) thread.tokens.push_back(event.token.token);
    if (event.kind != Event::Kind::kFinished) return;
    thread.finished = true;
    thread.reason = event.reason;
    thread.error = event.error;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::uint64_t, Thread> threads_;  // guarded by mutex_
};

}  // namespace latentd
