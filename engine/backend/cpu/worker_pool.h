// WorkerPool: the threads that the CPU backend computes with.
//
// parallel_for hands out items to the caller and the workers by a shared counter; whoever is slowed
// down takes fewer. No result may depend on who computes an item. Between jobs workers spin for at
// most 50 us and then block, so that an idle or slow engine leaves the cores to the doors.
//
// Contract: parallel_for is called by one thread at a time and is not nested; it returns when every
// item is done, and what the items wrote is then visible to the caller. A pool of one thread starts
// none.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace latentd {

class WorkerPool {
 public:
  // num_threads counts the caller. REQUIRES: at least 1.
  explicit WorkerPool(int num_threads);
  ~WorkerPool();

  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(item, worker) for every item in [0, num_items); worker in [0, num_threads()) names
  // the thread, for its scratch memory.
  template <typename Body>
  void parallel_for(int num_items, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run({[](void* context, int item, int worker) { (*static_cast<Plain*>(context))(item, worker); },
         const_cast<std::remove_const_t<Plain>*>(&body), num_items});
  }

 private:
  struct Job {
    void (*call)(void* context, int item, int worker) = nullptr;
    void* context = nullptr;
    int num_items = 0;
  };

  void run(const Job& job);
  void take_items(const Job& job, int worker);
  void work(int worker);

  Job job_;  // written by the caller before it raises epoch_
  std::atomic<std::uint32_t> epoch_{0};
  std::atomic<std::uint32_t> busy_{0};  // workers that have not finished the job
  std::atomic<int> next_item_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
};

// Processors this process may use: the least of its affinity mask and its cgroup's quota (v2
// cpu.max or v1 cpu.cfs_quota_us, of the cgroup and its parents), rounded up, at least 1.
int usable_cpu_count();

}  // namespace latentd
