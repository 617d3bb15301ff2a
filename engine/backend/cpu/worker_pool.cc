#include "engine/backend/cpu/worker_pool.h"

#include <chrono>

#include "base/check.h"

namespace latentd {
namespace {

constexpr std::chrono::microseconds kSpin{50};

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Until value differs from `old`: spins briefly, then blocks.
void wait_for_change(const std::atomic<std::uint32_t>& value, std::uint32_t old) {
  const auto give_up = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; ++i) {
      if (value.load(std::memory_order_acquire) != old) return;
      pause_cpu();
    }
  } while (std::chrono::steady_clock::now() < give_up);
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

WorkerPool::WorkerPool(int num_threads) {
  LATENTD_CHECK(num_threads >= 1, "a pool needs a thread, got {}", num_threads);
  workers_.reserve(static_cast<std::size_t>(num_threads - 1));
  for (int worker = 1; worker < num_threads; ++worker) {
    workers_.emplace_back([this, worker] { work(worker); });
  }
}

WorkerPool::~WorkerPool() {
  stopping_.store(true, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void WorkerPool::run(const Job& job) {
  if (workers_.empty() || job.num_items <= 1) {
    for (int item = 0; item < job.num_items; ++item) job.call(job.context, item, 0);
    return;
  }
  job_ = job;
  next_item_.store(0, std::memory_order_relaxed);
  busy_.store(static_cast<std::uint32_t>(workers_.size()), std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();

  take_items(job, 0);

  while (true) {
    const std::uint32_t busy = busy_.load(std::memory_order_acquire);
    if (busy == 0) return;
    wait_for_change(busy_, busy);
  }
}

void WorkerPool::take_items(const Job& job, int worker) {
  while (true) {
    const int item = next_item_.fetch_add(1, std::memory_order_relaxed);
    if (item >= job.num_items) return;
    job.call(job.context, item, worker);
  }
}

void WorkerPool::work(int worker) {
  std::uint32_t seen = 0;
  while (true) {
    wait_for_change(epoch_, seen);
    // The caller raises the epoch again only after every worker has finished: none is skipped.
    ++seen;
    if (stopping_.load(std::memory_order_relaxed)) return;
    take_items(job_, worker);
    if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) busy_.notify_one();
  }
}

}  // namespace latentd
