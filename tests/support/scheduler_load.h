// SchedulerLoad: a scheduler under a steady load of full slots and a queue behind them, with
// results made up in no time, so that nothing but the scheduler is measured.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "kvcache/block_manager.h"
#include "scheduler/scheduler.h"

namespace latentd {

struct LoadOptions {
  int num_running = 256;
  int num_waiting = 4096;
  int pipeline_depth = 1;
  int prompt_tokens = 512;  // of which shared_tokens are the same in every request
  int shared_tokens = 256;
  int max_new_tokens = 256;
  int num_batched_tokens = 2048;
  int num_pages = 8192;  // of 64 tokens
  PrefixPolicy prefixes{.max_depth = 3};
};

class SchedulerLoad final {
 public:
  explicit SchedulerLoad(const LoadOptions& options);

  // Submits until num_waiting wait again. Allocates: it makes requests.
  void fill_queue();
  // One step: schedule, and commit the oldest plan; made-up tokens. Events go to `events`.
  void step();
  const Scheduler& scheduler() const { return scheduler_; }
  const std::vector<Event>& events() const { return events_; }

 private:
  void make_up_result();

  const LoadOptions options_;
  BlockManager blocks_;
  Scheduler scheduler_;
  std::mt19937_64 random_{1};
  std::vector<TokenId> shared_;
  std::uint64_t next_id_ = 1;
  TimePoint now_{};
  BatchPlan plans_[2];
  int uncommitted_ = 0;
  std::size_t newest_ = 0;
  StepResult result_;
  std::vector<Event> events_;
};

}  // namespace latentd
