#include "loadtest/worker.h"

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <vector>

namespace latentd::loadtest {
namespace {

// Ends every request at the next wait.
class InstantTransport final : public Transport {
 public:
  void start(std::size_t index, TimePoint intended) override {
    started.push_back({index, intended});
    in_flight_.push_back(index);
    most = std::max(most, in_flight_.size());
  }
  void wait(TimePoint) override { end_all(); }
  void abort_all(const std::string&) override {
    aborted = in_flight_.size();
    end_all();
  }
  std::size_t in_flight() const override { return in_flight_.size(); }

  std::vector<std::pair<std::size_t, TimePoint>> started;
  std::size_t most = 0;
  std::size_t aborted = 0;

 private:
  void end_all() {
    finished_.insert(finished_.end(), in_flight_.begin(), in_flight_.end());
    in_flight_.clear();
  }
  std::vector<std::size_t> in_flight_;
};

struct Bench {
  explicit Bench(const Scenario& of) : scenario(of), plan(*make_plan(of, {})) {
    for (std::size_t i = 0; i < plan.size(); ++i) {
      if (plan[i].first_turn) sessions.push_back(i);
    }
  }
  void run(int threads = 1) {
    for (int i = 0; i < threads; ++i) {
      Worker(scenario, plan, sessions, next, {i, threads, start}, transport).run(stop);
    }
  }
  std::map<std::size_t, int> times_started() const {
    std::map<std::size_t, int> counts;
    for (const auto& [index, intended] : transport.started) ++counts[index];
    return counts;
  }

  Scenario scenario;
  std::vector<PlannedRequest> plan;
  std::vector<std::size_t> sessions;
  SessionCounter next{0};
  InstantTransport transport;
  TimePoint start = steady_now();
  std::atomic<bool> stop{false};
};

TEST(Worker, OpenLoopSendsEveryRequestOnceAtItsIntendedTime) {
  Scenario scenario;
  scenario.rate = 10'000.0;
  scenario.requests = 300;
  Bench bench(scenario);
  bench.run(3);
  EXPECT_EQ(bench.transport.started.size(), 300U);
  EXPECT_EQ(bench.times_started().size(), 300U);
  for (const auto& [index, intended] : bench.transport.started) {
    EXPECT_NEAR(to_seconds(intended - bench.start), bench.plan[index].at_seconds, 1e-6);
  }
}

TEST(Worker, ClosedLoopKeepsSoManyUsersBusy) {
  Scenario scenario;
  scenario.process = Process::kClosed;
  scenario.concurrency = 4;
  scenario.requests = 50;
  Bench bench(scenario);
  bench.run();
  EXPECT_EQ(bench.times_started().size(), 50U);
  EXPECT_EQ(bench.transport.started.size(), 50U);
  EXPECT_EQ(bench.transport.most, 4U);
}

TEST(Worker, ATurnGoesOutAfterTheAnswerToTheOneBefore) {
  Scenario scenario;
  scenario.rate = 10'000.0;
  scenario.requests = 20;
  scenario.tenants[0].turns = 5;
  Bench bench(scenario);
  bench.run();
  ASSERT_EQ(bench.transport.started.size(), 20U);
  std::map<std::size_t, std::size_t> order;
  for (std::size_t i = 0; i < 20; ++i) order[bench.transport.started[i].first] = i;
  ASSERT_EQ(order.size(), 20U);
  for (std::size_t i = 0; i < 20; ++i) {
    if (i % 5 != 4) {
      EXPECT_LT(order[i], order[i + 1]);
    }
  }
}

TEST(Worker, StopBreaksOffWhatIsInFlight) {
  Scenario scenario;
  scenario.rate = 0.001;
  scenario.requests = 1;
  Bench bench(scenario);
  bench.stop = true;
  bench.transport.start(0, bench.start);
  bench.run();
  EXPECT_EQ(bench.transport.aborted, 1U);
  EXPECT_EQ(bench.transport.started.size(), 1U);
}

}  // namespace
}  // namespace latentd::loadtest
