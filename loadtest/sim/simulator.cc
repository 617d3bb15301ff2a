#include "loadtest/sim/simulator.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "kvcache/block_manager.h"

namespace latentd::loadtest {
namespace {

Duration to_duration(double seconds) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

class Simulation final {
 public:
  Simulation(const SimOptions& options, const std::vector<SimRequest>& requests,
             const PromptMaker& make_prompt, const GapListener& on_gap)
      : options_(options),
        requests_(requests),
        make_prompt_(make_prompt),
        on_gap_(on_gap),
        blocks_(options.num_pages, options.page_tokens),
        scheduler_(options.scheduler, blocks_),
        last_token_(requests.size()) {
    result_.outcomes.resize(requests.size());
  }

  SimResult run() {
    while (next_ < requests_.size() || !scheduler_.idle() || !plans_.empty()) {
      admit();
      step();
      take_events();
    }
    result_.stats = scheduler_.stats();
    result_.simulated_s = to_seconds(last_end_.time_since_epoch());
    return std::move(result_);
  }

 private:
  struct InFlight {
    BatchPlan plan;
    double seconds = 0.0;
  };

  TimePoint arrival(std::size_t index) const {
    return TimePoint(to_duration(requests_[index].at_seconds + options_.door_s));
  }

  void admit() {
    for (; next_ < requests_.size() && arrival(next_) <= now_; ++next_) {
      const SimRequest& asked = requests_[next_];
      auto request = std::make_unique<Request>();
      request->id = RequestId(next_ + 1);
      make_prompt_(next_, request->prompt);
      request->max_new_tokens = asked.output_tokens;
      request->priority = asked.priority;
      if (!scheduler_.submit(std::move(request), now_).ok()) ++result_.refused;
    }
  }

  // One turn of the engine's loop: launch what may be launched, then wait for the oldest step.
  void step() {
    const auto depth = static_cast<std::size_t>(options_.scheduler.pipeline_depth);
    bool launched = false;
    if (plans_.size() < depth) {
      InFlight next;
      if (scheduler_.schedule(now_, next.plan)) {
        next.seconds = options_.cost.seconds(work_of(next.plan));
        plans_.push_back(std::move(next));
        launched = true;
      }
    }
    if (plans_.size() == depth || (!launched && !plans_.empty())) return commit_oldest();
    if (!launched) jump();
  }

  void commit_oldest() {
    const InFlight oldest = std::move(plans_.front());
    plans_.erase(plans_.begin());
    device_free_ = std::max(device_free_, now_) + to_duration(oldest.seconds);
    result_.busy_s += oldest.seconds;
    now_ = device_free_;
    step_result_.clear();
    step_result_.step = oldest.plan.step;
    step_result_.rows.resize(oldest.plan.rows.size());
    for (std::size_t i = 0; i < oldest.plan.rows.size(); ++i) {
      step_result_.rows[i].sampled = oldest.plan.rows[i].samples;
      // Answers differ, so that no two sequences share generated pages by accident.
      step_result_.rows[i].sample.token.token = static_cast<TokenId>(++tokens_made_ & 0x3fffffff);
    }
    scheduler_.commit(step_result_, now_);
  }

  // Nothing to compute: on to the next arrival.
  void jump() {
    if (next_ < requests_.size()) now_ = std::max(now_, arrival(next_));
  }

  void take_events() {
    events_.clear();
    scheduler_.drain_events(events_);
    for (const Event& event : events_) {
      const std::size_t index = static_cast<std::size_t>(event.request.value()) - 1;
      SimOutcome& outcome = result_.outcomes[index];
      const double since = to_seconds(event.time.time_since_epoch()) - requests_[index].at_seconds;
      switch (event.kind) {
        case Event::Kind::kStarted:
          outcome.queue_s = since;
          outcome.cached_tokens = event.cached_tokens;
          break;
        case Event::Kind::kToken:
          if (outcome.tokens++ == 0) {
            outcome.first_s = since;
          } else {
            on_gap_(since - last_token_[index]);
          }
          last_token_[index] = since;
          break;
        case Event::Kind::kFinished:
          outcome.end_s = since;
          last_end_ = std::max(last_end_, event.time);
          break;
        case Event::Kind::kPromptLogprob:
          break;
      }
    }
  }

  const SimOptions& options_;
  const std::vector<SimRequest>& requests_;
  const PromptMaker& make_prompt_;
  const GapListener& on_gap_;
  BlockManager blocks_;
  Scheduler scheduler_;
  TimePoint now_{};
  TimePoint device_free_{};
  TimePoint last_end_{};
  std::size_t next_ = 0;
  std::vector<InFlight> plans_;
  StepResult step_result_;
  std::vector<Event> events_;
  std::vector<double> last_token_;  // of each request, since its arrival
  std::uint64_t tokens_made_ = 0;
  SimResult result_;
};

}  // namespace

Result<SimResult> simulate(const SimOptions& options, const std::vector<SimRequest>& requests,
                           const PromptMaker& make_prompt, const GapListener& on_gap) {
  LATENTD_RETURN_IF_ERROR(Scheduler::validate(options.scheduler));
  if (options.num_pages < 1) return invalid_argument("num_pages", "must be at least 1");
  if (options.cost.step <= 0.0 && options.cost.row <= 0.0 && options.cost.token <= 0.0) {
    return invalid_argument("cost", "a step must take time");
  }
  if (!std::ranges::is_sorted(requests, {}, &SimRequest::at_seconds)) {
    return invalid_argument("requests", "must be sorted by time");
  }
  return Simulation(options, requests, make_prompt, on_gap).run();
}

}  // namespace latentd::loadtest
