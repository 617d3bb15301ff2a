// VirtualClient: turns the events of a simulation into the measures of a load test, so that both
// make the same report.
//
// Contract: one thread; scenario and plan outlive it. The clock begins at TimePoint{}.
#pragma once

#include <cstddef>
#include <unordered_map>
#include <vector>

#include "loadtest/measures.h"
#include "loadtest/plan.h"
#include "loadtest/scenario.h"
#include "loadtest/sim/simulator.h"

namespace latentd::loadtest {

// What the simulator is asked: the plan's requests, turn by turn. Tenants with keys of their own
// share no prefixes, as in the server.
std::vector<SimRequest> simulated_requests(const Scenario& scenario,
                                           const std::vector<PlannedRequest>& plan);

class VirtualClient final {
 public:
  VirtualClient(const Scenario& scenario, const std::vector<PlannedRequest>& plan);

  void on_event(const SimEvent& event);

  const Measures& measures() const { return recorder_.measures(); }

 private:
  const std::vector<PlannedRequest>& plan_;
  Live live_;
  Recorder recorder_;
  std::unordered_map<std::size_t, Progress> in_flight_;
};

}  // namespace latentd::loadtest
