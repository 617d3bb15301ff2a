// TaskPool: a few threads that do work off the doors' threads (parsing, tokenising), in order of
// arrival.
//
// How much may wait is bounded by the intake slots that its callers hold. Contract: post from any
// thread; close (once, or the destructor) finishes what was posted, then joins. What is posted
// later runs on the caller's thread. Tasks do not throw.
#pragma once

#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

namespace latentd {

class TaskPool final {
 public:
  explicit TaskPool(int num_threads);
  ~TaskPool();
  TaskPool(const TaskPool&) = delete;
  TaskPool& operator=(const TaskPool&) = delete;

  void close();

  // `task` may be move-only.
  template <typename Task>
  void post(Task task) {
    push(std::packaged_task<void()>(std::move(task)));
  }

 private:
  void push(std::packaged_task<void()> task);
  void run();

  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<std::packaged_task<void()>> tasks_;  // guarded by mutex_
  bool closed_ = false;                           // guarded by mutex_
  std::vector<std::thread> threads_;
};

}  // namespace latentd
