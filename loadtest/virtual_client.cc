#include "loadtest/virtual_client.h"

#include <string>
#include <utility>

namespace latentd::loadtest {
namespace {

RecorderOptions recorder_options(const Scenario& scenario) {
  RecorderOptions options;
  options.warmup_s = scenario.warmup_s;
  options.end_s = scenario.duration_s;
  options.slo = scenario.slo;
  options.num_tenants = scenario.tenants.size();
  return options;
}

// As the HTTP transport names how a request ends; empty: well.
std::string error_of(SimEvent::Kind kind) {
  switch (kind) {
    case SimEvent::Kind::kCancelled:
      return "cancelled";
    case SimEvent::Kind::kRefused:
      return "http 429";
    case SimEvent::Kind::kTooLong:
      return "http 400";
    default:
      return "";
  }
}

}  // namespace

std::vector<SimRequest> simulated_requests(const Scenario& scenario,
                                           const std::vector<PlannedRequest>& plan) {
  std::vector<SimRequest> requests;
  requests.reserve(plan.size());
  for (const PlannedRequest& planned : plan) {
    const Tenant& tenant = scenario.tenants[static_cast<std::size_t>(planned.tenant)];
    SimRequest request;
    request.at_seconds = planned.at_seconds;
    request.prompt_tokens = planned.prompt_tokens();
    request.output_tokens = planned.max_tokens;
    request.priority = tenant.priority;
    request.cancel_after = planned.cancel_after;
    request.first_turn = planned.first_turn;
    request.next_turn = planned.next_turn;
    request.think_s = tenant.think_s;
    request.salt = tenant.api_key.empty() ? 0 : mix(1, static_cast<std::uint64_t>(planned.tenant));
    requests.push_back(request);
  }
  return requests;
}

VirtualClient::VirtualClient(const Scenario& scenario, const std::vector<PlannedRequest>& plan)
    : plan_(plan), recorder_(recorder_options(scenario), live_) {}

void VirtualClient::on_event(const SimEvent& event) {
  const PlannedRequest& planned = plan_[event.index];
  if (event.kind == SimEvent::Kind::kSent) {
    Progress& progress = in_flight_[event.index];
    progress.index = event.index;
    progress.tenant = planned.tenant;
    recorder_.on_sent(progress, event.time, event.time);
    return;
  }
  Progress& progress = in_flight_.at(event.index);
  if (event.kind == SimEvent::Kind::kToken) {
    recorder_.on_tokens(progress, 1, event.time);
    return;
  }
  progress.prompt_tokens = planned.prompt_tokens();
  progress.completion_tokens = progress.event_tokens;
  progress.cached_tokens = event.cached_tokens;
  recorder_.on_end(progress, error_of(event.kind), planned.max_tokens, false, event.time);
  in_flight_.erase(event.index);
}

}  // namespace latentd::loadtest
