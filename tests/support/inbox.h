// Inbox: what the engine told each request, for tests that run the real engine.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <span>
#include <utility>
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
      act();
    };
  }

  // Runs `act` when `id` has `count` tokens, on the engine's thread: the engine cannot run ahead of
  // a test that the machine keeps waiting. To be called before the request is submitted.
  void at_tokens(std::uint64_t id, std::size_t count, std::function<void()> act) {
    std::lock_guard lock(mutex_);
    acts_.push_back({id, count, std::move(act)});
  }

  // What came for `id` until its last event.
  Thread wait_finished(std::uint64_t id) {
    return wait(id, [](const Thread& thread) { return thread.finished; });
  }
  Thread wait_tokens(std::uint64_t id, std::size_t count) {
    return wait(id, [count](const Thread& thread) { return thread.tokens.size() >= count; });
  }

 private:
  struct Act {
    std::uint64_t id;
    std::size_t count;
    std::function<void()> run;
  };

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

  void act() {
    std::vector<Act> due;
    {
      std::lock_guard lock(mutex_);
      const auto is_due = [this](const Act& act) {
        return threads_[act.id].tokens.size() >= act.count;
      };
      std::ranges::copy_if(acts_, std::back_inserter(due), is_due);
      std::erase_if(acts_, is_due);
    }
    for (const Act& act : due) act.run();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::uint64_t, Thread> threads_;  // guarded by mutex_, as is the next
  std::vector<Act> acts_;
};

}  // namespace latentd
