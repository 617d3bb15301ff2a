#include "server/task_pool.h"

namespace latentd {

TaskPool::TaskPool(int num_threads) {
  for (int i = 0; i < num_threads; ++i) threads_.emplace_back([this] { run(); });
}

TaskPool::~TaskPool() { close(); }

void TaskPool::close() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  ready_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void TaskPool::push(std::packaged_task<void()> task) {
  {
    std::unique_lock lock(mutex_);
    if (closed_) {  // whoever waits for it must still be answered
      lock.unlock();
      task();
      return;
    }
    tasks_.push_back(std::move(task));
  }
  ready_.notify_one();
}

void TaskPool::run() {
  while (true) {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [this] { return closed_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    std::packaged_task<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
  }
}

}  // namespace latentd
