#include "engine/bench/step_driver.h"

#include <algorithm>
#include <chrono>

namespace latentd {
namespace {

constexpr std::uint64_t kTokenSeed = 1;

}  // namespace

StepDriver::StepDriver(const ModelConfig& config, const StepDriverOptions& options)
    : vocab_size_(config.vocab_size), options_(options), random_(kTokenSeed) {
  for (int slot = 0; slot < options.max_rows; ++slot) {
    auto request = std::make_unique<Request>();
    request->prompt = {0};
    request->sampling.seed = static_cast<std::uint64_t>(slot);
    requests_.push_back(std::move(request));
  }
}

Result<std::unique_ptr<StepDriver>> StepDriver::create(Backend& backend, const ModelConfig& config,
                                                       const ModelWeights& weights,
                                                       const CacheLayout& layout,
                                                       const StepDriverOptions& options) {
  RunnerOptions runner;
  runner.max_num_seqs = options.max_rows;
  runner.max_num_batched_tokens = std::max(options.chunk, options.max_rows);
  runner.max_model_len = options.max_length;
  const int pages_per_slot = layout.pages_for_tokens(options.max_length);
  runner.num_pages = options.max_rows * pages_per_slot;
  runner.expanded_min_tokens = options.expanded_min_tokens;
  std::unique_ptr<StepDriver> driver(new StepDriver(config, options));
  LATENTD_ASSIGN_OR_RETURN(driver->runner_,
                           ModelRunner::create(backend, config, weights, layout, runner));

  // The first step introduces all slots.
  BatchPlan& plan = driver->plan_;
  for (int slot = 0; slot < options.max_rows; ++slot) {
    const auto first_page = static_cast<std::int32_t>(plan.pages.size());
    for (int i = 0; i < pages_per_slot; ++i) plan.pages.emplace_back(first_page + i);
    plan.starts.push_back({SlotId(slot), driver->requests_[static_cast<std::size_t>(slot)].get()});
    plan.page_changes.push_back({SlotId(slot), 0, pages_per_slot, first_page});
    plan.rows.push_back(driver->make_row(slot, 0, 1, /*last=*/true));
  }
  LATENTD_ASSIGN_OR_RETURN([[maybe_unused]] const double seconds, driver->run_step());
  return driver;
}

PlanRow StepDriver::make_row(int slot, int start, int count, bool last) {
  PlanRow row;
  row.slot = SlotId(slot);
  row.start = start;
  row.count = count;
  row.logits = last ? LogitsWanted::kLast : LogitsWanted::kNone;
  row.samples = last;
  row.first_token = static_cast<std::int32_t>(plan_.tokens.size());
  std::uniform_int_distribution<TokenId> token(0, vocab_size_ - 1);
  for (int i = 0; i < count; ++i) plan_.tokens.push_back(token(random_));
  return row;
}

Result<double> StepDriver::run_step() {
  const auto begin = std::chrono::steady_clock::now();
  LATENTD_RETURN_IF_ERROR(runner_->forward(plan_));
  LATENTD_RETURN_IF_ERROR(runner_->sample(plan_));
  LATENTD_RETURN_IF_ERROR(runner_->wait(result_));
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  const std::uint64_t step = plan_.step;
  plan_.clear();
  plan_.step = step + 1;
  return elapsed.count();
}

Result<double> StepDriver::prefill(int slot, int start, int count) {
  double total = 0.0;
  for (int done = 0; done < count; done += options_.chunk) {
    const int tokens = std::min(options_.chunk, count - done);
    plan_.rows.push_back(make_row(slot, start + done, tokens, done + tokens == count));
    LATENTD_ASSIGN_OR_RETURN(const double seconds, run_step());
    total += seconds;
  }
  return total;
}

Result<double> StepDriver::decode(int rows, int position) {
  for (int slot = 0; slot < rows; ++slot) {
    plan_.rows.push_back(make_row(slot, position, 1, /*last=*/true));
  }
  return run_step();
}

}  // namespace latentd
