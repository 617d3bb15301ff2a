#include "loadtest/sim/simulator.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "kvcache/block_manager.h"
#include "loadtest/sim/arrival_queue.h"

namespace latentd::loadtest {
namespace {

Duration to_duration(double seconds) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

class Simulation final {
 public:
  Simulation(const SimOptions& options, const std::vector<SimRequest>& requests,
             const PromptMaker& make_prompt, const SimListener& listener)
      : options_(options),
        requests_(requests),
        make_prompt_(make_prompt),
        listener_(listener),
        door_(to_duration(options.cost.door)),
        arrivals_(requests, options.users, options.end_s),
        blocks_(options.num_pages, options.page_tokens),
        scheduler_(options.scheduler, blocks_),
        sent_(requests.size()) {
    result_.outcomes.resize(requests.size());
  }

  SimResult run() {
    while (!arrivals_.empty() || !scheduler_.idle() || !plans_.empty()) {
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

  // When the next request is through the door.
  TimePoint next_arrival() const {
    const TimePoint sent = arrivals_.next_time();
    return sent == kNever ? kNever : sent + door_;
  }

  void admit() {
    while (next_arrival() <= now_) {
      const TimePoint sent = arrivals_.next_time();
      submit(arrivals_.pop(), sent);
    }
  }

  void submit(std::size_t index, TimePoint sent) {
    const SimRequest& asked = requests_[index];
    sent_[index] = sent;
    tell(SimEvent::Kind::kSent, index, sent);
    if (in_house_ >= options_.max_queue) return refuse(SimEvent::Kind::kRefused, index, sent);
    auto request = std::make_unique<Request>();
    request->id = RequestId(index + 1);
    make_prompt_(index, request->prompt);
    request->max_new_tokens = asked.output_tokens;
    request->priority = asked.priority;
    request->salt = asked.salt;
    if (!scheduler_.submit(std::move(request), now_).ok()) {
      return refuse(SimEvent::Kind::kTooLong, index, sent);
    }
    ++in_house_;
  }

  void refuse(SimEvent::Kind kind, std::size_t index, TimePoint sent) {
    ++result_.refused;
    tell(kind, index, sent + door_);
    arrivals_.on_end(index, sent + door_);
  }

  // One turn of the engine's loop: launch what may be launched, then wait for the oldest step.
  void step() {
    const auto depth = static_cast<std::size_t>(options_.scheduler.pipeline_depth);
    bool launched = false;
    if (plans_.size() < depth) {
      InFlight next;
      if (scheduler_.schedule(now_, next.plan)) {
        next.seconds = options_.cost.seconds(work_of(next.plan, options_.cost.routed_share));
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
    if (next_arrival() != kNever) now_ = std::max(now_, next_arrival());
  }

  // Until there are none: hanging up makes another.
  void take_events() {
    do {
      events_.clear();
      scheduler_.drain_events(events_);
      for (const Event& event : events_) take(event);
    } while (!events_.empty());
  }

  void take(const Event& event) {
    const std::size_t index = static_cast<std::size_t>(event.request.value()) - 1;
    SimOutcome& outcome = result_.outcomes[index];
    const double since = to_seconds(event.time - sent_[index]);
    switch (event.kind) {
      case Event::Kind::kStarted:
        outcome.queue_s = since;
        outcome.cached_tokens = event.cached_tokens;
        break;
      case Event::Kind::kToken:
        if (outcome.tokens++ == 0) outcome.first_s = since;
        tell(SimEvent::Kind::kToken, index, event.time);
        if (hung_up(index)) scheduler_.cancel(event.request, FinishReason::kCancelled, event.time);
        break;
      case Event::Kind::kFinished:
        outcome.end_s = since;
        last_end_ = std::max(last_end_, event.time);
        --in_house_;
        tell(hung_up(index) ? SimEvent::Kind::kCancelled : SimEvent::Kind::kFinished, index,
             event.time);
        arrivals_.on_end(index, event.time);
        break;
      case Event::Kind::kPromptLogprob:
        break;
    }
  }

  bool hung_up(std::size_t index) const {
    const int limit = requests_[index].cancel_after;
    return limit >= 0 && result_.outcomes[index].tokens > limit;
  }

  void tell(SimEvent::Kind kind, std::size_t index, TimePoint time) const {
    if (listener_) listener_({kind, index, time, result_.outcomes[index].cached_tokens});
  }

  const SimOptions& options_;
  const std::vector<SimRequest>& requests_;
  const PromptMaker& make_prompt_;
  const SimListener& listener_;
  const Duration door_;
  ArrivalQueue arrivals_;
  BlockManager blocks_;
  Scheduler scheduler_;
  TimePoint now_{};
  TimePoint device_free_{};
  TimePoint last_end_{};
  int in_house_ = 0;
  std::vector<InFlight> plans_;
  StepResult step_result_;
  std::vector<Event> events_;
  std::vector<TimePoint> sent_;  // by request
  std::uint64_t tokens_made_ = 0;
  SimResult result_;
};

}  // namespace

Result<SimResult> simulate(const SimOptions& options, const std::vector<SimRequest>& requests,
                           const PromptMaker& make_prompt, const SimListener& listener) {
  LATENTD_RETURN_IF_ERROR(Scheduler::validate(options.scheduler));
  if (options.num_pages < 1) return invalid_argument("num_pages", "must be at least 1");
  if (options.cost.step <= 0.0 && options.cost.row <= 0.0 && options.cost.token <= 0.0) {
    return invalid_argument("cost", "a step must take time");
  }
  double latest = 0.0;
  for (const SimRequest& request : requests) {
    if (!request.first_turn) continue;
    if (request.at_seconds < latest) return invalid_argument("requests", "must be sorted by time");
    latest = request.at_seconds;
  }
  return Simulation(options, requests, make_prompt, listener).run();
}

}  // namespace latentd::loadtest
