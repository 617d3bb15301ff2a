#include "engine/bench/step_driver.h"

#include <algorithm>
#include <numeric>

#include "base/clock.h"

namespace latentd {
namespace {

constexpr std::uint64_t kTokenSeed = 1;

}  // namespace

StepDriver::StepDriver(const ModelConfig& config, const StepDriverOptions& options)
    : vocab_size_(config.vocab_size), options_(options), random_(kTokenSeed) {
  for (std::size_t slot = 0; slot < options.lengths.size(); ++slot) {
    auto request = std::make_unique<Request>();
    request->prompt = {0};
    request->sampling.seed = slot;
    requests_.push_back(std::move(request));
  }
}

Result<std::unique_ptr<StepDriver>> StepDriver::create(Backend& backend, const ModelConfig& config,
                                                       const ModelWeights& weights,
                                                       const CacheLayout& layout,
                                                       const StepDriverOptions& options) {
  RunnerOptions runner;
  const int slots = static_cast<int>(options.lengths.size());
  runner.max_num_seqs = slots;
  runner.max_num_batched_tokens = std::max(options.chunk, slots);
  runner.max_model_len = *std::ranges::max_element(options.lengths);
  const int shared_pages = std::min(options.shared / layout.page_tokens(),
                                    layout.pages_for_tokens(runner.max_model_len));
  runner.num_pages = shared_pages;
  for (const int length : options.lengths) {
    runner.num_pages += std::max(layout.pages_for_tokens(length) - shared_pages, 0);
  }
  runner.shares_prefixes = options.shares_prefixes;
  runner.expansion = options.expansion;
  runner.graph_buckets = options.graph_buckets;
  std::unique_ptr<StepDriver> driver(new StepDriver(config, options));
  LATENTD_ASSIGN_OR_RETURN(RunnerMemory memory,
                           RunnerMemory::create(backend, config, weights, layout, runner));
  LATENTD_RETURN_IF_ERROR(memory.allocate_cache(backend, layout, runner.num_pages));
  LATENTD_ASSIGN_OR_RETURN(driver->runner_,
                           ModelRunner::create(backend, config, layout, runner, std::move(memory)));

  // The first step introduces all slots.
  const auto introduce = [&](int /*step*/, BatchPlan& plan) {
    int own_page = shared_pages;
    for (int slot = 0; slot < slots; ++slot) {
      const auto index = static_cast<std::size_t>(slot);
      const auto first_page = static_cast<std::int32_t>(plan.pages.size());
      const int pages = layout.pages_for_tokens(options.lengths[index]);
      for (int i = 0; i < pages; ++i) plan.pages.emplace_back(i < shared_pages ? i : own_page++);
      plan.starts.push_back({SlotId(slot), driver->requests_[index].get()});
      plan.page_changes.push_back({SlotId(slot), 0, pages, first_page});
      plan.rows.push_back(driver->make_row(plan, slot, 0, 1, /*last=*/true));
    }
  };
  LATENTD_ASSIGN_OR_RETURN([[maybe_unused]] const auto seconds, driver->run_steps(1, introduce));
  return driver;
}

PlanRow StepDriver::make_row(BatchPlan& plan, int slot, int start, int count, bool last) {
  PlanRow row;
  row.slot = SlotId(slot);
  row.start = start;
  row.count = count;
  row.logits = last ? LogitsWanted::kLast : LogitsWanted::kNone;
  row.samples = last;
  row.first_token = static_cast<std::int32_t>(plan.tokens.size());
  std::uniform_int_distribution<TokenId> token(0, vocab_size_ - 1);
  for (int i = 0; i < count; ++i) plan.tokens.push_back(token(random_));
  return row;
}

Result<std::vector<double>> StepDriver::run_steps(int steps, const FillPlan& fill) {
  std::vector<double> seconds;
  TimePoint last = steady_now();
  const auto finish_one = [&]() -> Status {
    LATENTD_RETURN_IF_ERROR(runner_->wait(result_));
    const TimePoint now = steady_now();
    seconds.push_back(to_seconds(now - last));
    last = now;
    return ok_status();
  };
  for (int i = 0; i < steps; ++i) {
    BatchPlan& plan = plans_[num_steps_ % 2];
    plan.clear();
    plan.step = num_steps_++;
    fill(i, plan);
    LATENTD_RETURN_IF_ERROR(runner_->forward(plan));
    if (options_.depth == 2 && i > 0) LATENTD_RETURN_IF_ERROR(finish_one());
    LATENTD_RETURN_IF_ERROR(runner_->sample(plan));
    if (options_.depth == 1 || i == steps - 1) LATENTD_RETURN_IF_ERROR(finish_one());
  }
  return seconds;
}

Result<double> StepDriver::prefill(int first_slot, int rows, int start, int count) {
  const int piece = std::max(1, options_.chunk / rows);
  const int steps = (count + piece - 1) / piece;
  LATENTD_ASSIGN_OR_RETURN(
      const std::vector<double> seconds, run_steps(steps, [&](int i, BatchPlan& plan) {
        const int first = i * piece;
        const int tokens = std::min(piece, count - first);
        for (int row = 0; row < rows; ++row) {
          plan.rows.push_back(make_row(plan, first_slot + row, start + first, tokens,
                                       /*last=*/i == steps - 1));
        }
      }));
  return std::accumulate(seconds.begin(), seconds.end(), 0.0);
}

Result<std::vector<double>> StepDriver::decode(int rows, int position, int steps,
                                               int prompt_tokens) {
  const bool shares =
      options_.shares_prefixes && options_.shared > 0 && options_.shared <= position && rows > 1;
  return run_steps(steps, [&](int i, BatchPlan& plan) {
    for (int slot = 0; slot < rows; ++slot) {
      PlanRow row = make_row(plan, slot, position + i, i == 0 ? 1 : 0, /*last=*/true);
      row.count = 1;
      row.pending_token = i > 0;
      if (shares) row.prefix = 0;
      plan.rows.push_back(row);
    }
    if (shares) plan.prefixes.push_back({0, rows, 0, options_.shared, -1});
    if (prompt_tokens > 0) {
      plan.rows.push_back(make_row(plan, rows, 0, prompt_tokens, /*last=*/false));
    }
  });
}

}  // namespace latentd
