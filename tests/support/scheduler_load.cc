#include "tests/support/scheduler_load.h"

#include <utility>

#include "base/check.h"

namespace latentd {
namespace {

SchedulerOptions scheduler_options(const LoadOptions& load) {
  SchedulerOptions options;
  options.max_num_seqs = load.num_running;
  options.max_num_batched_tokens = load.num_batched_tokens;
  options.max_model_len = load.prompt_tokens + load.max_new_tokens;
  options.pipeline_depth = load.pipeline_depth;
  options.prefixes = load.prefixes;
  return options;
}

}  // namespace

SchedulerLoad::SchedulerLoad(const LoadOptions& options)
    : options_(options),
      blocks_(options.num_pages, 64),
      scheduler_(scheduler_options(options), blocks_) {
  for (int i = 0; i < options.shared_tokens; ++i) {
    shared_.push_back(static_cast<TokenId>(random_() % 32'000));
  }
}

void SchedulerLoad::fill_queue() {
  while (scheduler_.stats().num_waiting < options_.num_waiting) {
    auto request = std::make_unique<Request>();
    request->id = RequestId(next_id_++);
    request->prompt = shared_;
    while (static_cast<int>(request->prompt.size()) < options_.prompt_tokens) {
      request->prompt.push_back(static_cast<TokenId>(random_() % 32'000));
    }
    // Spread, so that the slots do not all turn over at once.
    request->max_new_tokens =
        options_.max_new_tokens / 2 +
        static_cast<int>(random_() % static_cast<std::uint64_t>(options_.max_new_tokens / 2 + 1));
    request->deadline = now_ + std::chrono::hours(1 + static_cast<int>(random_() % 100));
    request->stop_tokens = {0, 1, 2};
    const Status status = scheduler_.submit(std::move(request), now_);
    LATENTD_CHECK(status.ok(), "{}", status.to_string());
  }
}

void SchedulerLoad::step() {
  now_ += std::chrono::milliseconds(10);
  const bool planned = scheduler_.schedule(now_, plans_[1 - newest_]);
  if (planned) {
    newest_ = 1 - newest_;
    ++uncommitted_;
  }
  if (uncommitted_ == options_.pipeline_depth || (!planned && uncommitted_ > 0)) {
    make_up_result();
    scheduler_.commit(result_, now_);
    --uncommitted_;
  }
  events_.clear();
  scheduler_.drain_events(events_);
}

void SchedulerLoad::make_up_result() {
  const BatchPlan& plan = plans_[uncommitted_ == 2 ? 1 - newest_ : newest_];
  result_.clear();
  result_.step = plan.step;
  result_.rows.resize(plan.rows.size());
  for (std::size_t i = 0; i < plan.rows.size(); ++i) {
    result_.rows[i].sampled = plan.rows[i].samples;
    result_.rows[i].sample.token.token = 3 + static_cast<TokenId>(random_() % 32'000);
  }
}

}  // namespace latentd
