#include "tests/support/scheduler_harness.h"

#include <algorithm>
#include <random>
#include <utility>

#include "base/check.h"

namespace latentd {

SchedulerHarness::SchedulerHarness(const HarnessOptions& options)
    : blocks(options.num_pages, options.page_tokens),
      scheduler(options.scheduler, blocks),
      runner(options.num_pages, options.page_tokens, options.scheduler.max_num_seqs,
             options.scheduler.max_num_batched_tokens),
      depth_(options.scheduler.pipeline_depth) {}

bool SchedulerHarness::turn() {
  now += step_time;
  const std::size_t next = (newest_ + 1) % plans_.size();
  const bool planned = scheduler.schedule(now, plans_[next]);
  if (planned) {
    newest_ = next;
    runner.forward(plans_[newest_]);
    ++uncommitted_;
    if (depth_ == 1) runner.sample(plans_[newest_], scheduler, results_[newest_]);
  }
  const bool commits = uncommitted_ == depth_ || (!planned && uncommitted_ > 0);
  if (commits) commit_oldest();
  if (planned && depth_ == 2) runner.sample(plans_[newest_], scheduler, results_[newest_]);
  listen();
  if (check_always) scheduler.check_invariants();
  return planned || commits;
}

void SchedulerHarness::commit_oldest() {
  const std::size_t oldest = uncommitted_ == 2 ? (newest_ + 1) % plans_.size() : newest_;
  scheduler.commit(results_[oldest], now);
  --uncommitted_;
}

void SchedulerHarness::run() {
  while (!scheduler.idle()) {
    LATENTD_CHECK(turn() || scheduler.idle(), "{} wait, {} run, and nothing is planned",
                  scheduler.stats().num_waiting, scheduler.stats().num_running);
  }
}

void SchedulerHarness::run_steps(int count) {
  while (scheduler.stats().steps < static_cast<std::uint64_t>(count)) {
    LATENTD_CHECK(turn(), "nothing to plan after {} steps", scheduler.stats().steps);
  }
}

RequestId SchedulerHarness::submit(std::unique_ptr<Request> request) {
  const RequestId id = request->id;
  const Status status = scheduler.submit(std::move(request), now);
  LATENTD_CHECK(status.ok(), "{}", status.to_string());
  return id;
}

void SchedulerHarness::listen() {
  events_.clear();
  scheduler.drain_events(events_);
  for (const Event& event : events_) {
    Heard& heard = heard_[event.request];
    LATENTD_CHECK(!heard.finished, "request {} was finished", event.request.value());
    switch (event.kind) {
      case Event::Kind::kStarted:
        ++heard.started;
        heard.cached_tokens = event.cached_tokens;
        heard.started_at = event.time;
        break;
      case Event::Kind::kPromptLogprob:
        heard.prompt_logprobs.push_back(event.token);
        break;
      case Event::Kind::kToken:
        heard.text.push_back(event.token.token);
        break;
      case Event::Kind::kFinished:
        heard.finished = event.reason;
        heard.error = event.error;
        heard.stop_token = event.stop_token;
        heard.preemptions = event.preemptions;
        break;
    }
  }
}

std::unique_ptr<Request> make_request(std::uint64_t id, int prompt_length, int max_new_tokens,
                                      std::uint64_t seed) {
  auto request = std::make_unique<Request>();
  request->id = RequestId(id);
  std::mt19937_64 random(seed);
  for (int i = 0; i < prompt_length; ++i) {
    request->prompt.push_back(static_cast<TokenId>(random() % FakeRunner::kVocab));
  }
  request->max_new_tokens = max_new_tokens;
  request->sampling.seed = id;
  return request;
}

}  // namespace latentd
