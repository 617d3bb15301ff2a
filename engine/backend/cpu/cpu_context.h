// CpuContext: what the operations of the CPU backend share: the threads and their scratch memory.
//
// Contract: used by the engine's thread; a worker touches only the scratch of its own index.
// Scratch grows to the largest step seen and is then reused: no allocation in steady state.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

#include "engine/backend/cpu/worker_pool.h"

namespace latentd::cpu {

// Aligned memory that is overwritten by its next user.
class ScratchBuffer {
 public:
  // REQUIRES: T is trivial. The contents are unspecified.
  template <typename T>
  T* take(std::size_t count) {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= kAlignment);
    if (count * sizeof(T) > size_) grow(count * sizeof(T));
    return reinterpret_cast<T*>(memory_.get());
  }

 private:
  static constexpr std::size_t kAlignment = 64;
  struct Free {
    void operator()(std::byte* p) const { ::operator delete (p, std::align_val_t{kAlignment}); }
  };

  void grow(std::size_t bytes) {
    memory_.reset();
    size_ = bytes + bytes / 2;
    memory_.reset(static_cast<std::byte*>(::operator new (size_, std::align_val_t{kAlignment})));
  }

  std::unique_ptr<std::byte, Free> memory_;
  std::size_t size_ = 0;
};

// One buffer a purpose, so that two that are alive together never share.
struct WorkerScratch {
  ScratchBuffer scores;
  ScratchBuffer state;
  ScratchBuffer rows;
  ScratchBuffer row_pointers;
  ScratchBuffer keys;
  ScratchBuffer values;
  ScratchBuffer latents;
  ScratchBuffer wide_rows;
};

struct CpuContext {
  explicit CpuContext(int num_threads)
      : pool(num_threads), workers(static_cast<std::size_t>(num_threads)) {}

  WorkerScratch& scratch(int worker) { return workers[static_cast<std::size_t>(worker)]; }

  WorkerPool pool;
  std::vector<WorkerScratch> workers;
  ScratchBuffer x_rows;
  ScratchBuffer act_rows;
  ScratchBuffer out_rows;
  ScratchBuffer weights;
  ScratchBuffer plan;
  ScratchBuffer items;
};

// Columns that one work item covers, so that `columns` of `row_cost` multiply-adds each make a few
// items a thread, none too small to be worth handing out. Always a multiple of 4.
inline int columns_per_item(const CpuContext& context, int columns, double row_cost) {
  constexpr double kLeastCost = 32768.0;
  const int even = columns / (context.pool.num_threads() * 6);
  int least = static_cast<int>(kLeastCost / row_cost);
  least = least > columns ? columns : least;
  const int wanted = even > least ? even : least;
  return (wanted / 4 + 1) * 4;
}

}  // namespace latentd::cpu
