#include "loadtest/plan.h"

#include <algorithm>
#include <cmath>

namespace latentd::loadtest {
namespace {

// Streams of randomness, so that a change of one does not move the others.
enum Stream : std::uint64_t { kArrivals = 1, kTenants, kLengths, kPrefixes, kBodies, kBlocks };

constexpr std::size_t kClosedSessions = 100'000;  // of a closed loop that only time ends

class Planner final {
 public:
  explicit Planner(const Scenario& scenario)
      : scenario_(scenario),
        tenants_(mix(scenario.seed, kTenants)),
        lengths_(mix(scenario.seed, kLengths)) {
    for (const Tenant& tenant : scenario.tenants) total_weight_ += tenant.weight;
  }

  // All turns of one session.
  void add_session(double at) {
    const std::int32_t index = pick_tenant();
    const Tenant& tenant = scenario_.tenants[static_cast<std::size_t>(index)];
    std::vector<PromptSegment> history;
    if (tenant.prefix_tokens > 0) {
      const auto group = lengths_.below(static_cast<std::uint64_t>(tenant.prefix_groups));
      history.push_back({prefix_seed(index, group), scaled(tenant.prefix_tokens)});
    }
    for (int turn = 0; turn < tenant.turns; ++turn) {
      PlannedRequest request;
      request.at_seconds = turn == 0 ? at : 0.0;
      request.first_turn = turn == 0;
      request.tenant = index;
      request.max_tokens =
          cut(scaled(tenant.output_tokens.draw(lengths_)), scenario_.max_output_tokens);
      history.push_back({next_body(), scaled(tenant.prompt_tokens.draw(lengths_))});
      request.prompt = history;
      // The next turn repeats the answer; what it will say is not known, its length is.
      history.push_back({next_body(), request.max_tokens});
      choose_manners(tenant, request);
      if (turn > 0) plan_.back().next_turn = static_cast<std::int32_t>(plan_.size());
      push(std::move(request));
    }
  }

  void add_entry(const TraceEntry& entry) {
    PlannedRequest request;
    request.at_seconds = entry.at_seconds / scenario_.time_scale;
    request.tenant = pick_tenant();
    const Tenant& tenant = scenario_.tenants[static_cast<std::size_t>(request.tenant)];
    request.max_tokens = cut(scaled(entry.output_tokens), scenario_.max_output_tokens);
    int left = scaled(entry.prompt_tokens);
    const auto add = [&](std::uint64_t seed, int tokens) {
      const int taken = std::min(tokens, left);
      if (taken > 0) request.prompt.push_back({seed, taken});
      left -= taken;
    };
    if (tenant.prefix_tokens > 0) {
      const auto group = lengths_.below(static_cast<std::uint64_t>(tenant.prefix_groups));
      add(prefix_seed(request.tenant, group), scaled(tenant.prefix_tokens));
    }
    for (const std::uint64_t block : entry.blocks) {
      add(mix(mix(scenario_.seed, kBlocks), block), scaled(kTraceBlockTokens));
    }
    add(next_body(), left);
    choose_manners(tenant, request);
    push(std::move(request));
  }

  std::size_t size() const { return plan_.size(); }
  std::vector<PlannedRequest> take() { return std::move(plan_); }

 private:
  static int cut(int value, int limit) { return limit > 0 ? std::min(value, limit) : value; }
  int scaled(int tokens) const {
    return std::max(1, static_cast<int>(std::lround(tokens * scenario_.length_scale)));
  }
  std::uint64_t next_body() { return mix(mix(scenario_.seed, kBodies), bodies_++); }
  std::uint64_t prefix_seed(std::int32_t tenant, std::uint64_t group) const {
    return mix(mix(mix(scenario_.seed, kPrefixes), static_cast<std::uint64_t>(tenant)), group);
  }

  std::int32_t pick_tenant() {
    double left = tenants_.uniform() * total_weight_;
    const std::size_t last = scenario_.tenants.size() - 1;
    for (std::size_t i = 0; i < last; ++i) {
      left -= scenario_.tenants[i].weight;
      if (left < 0.0) return static_cast<std::int32_t>(i);
    }
    return static_cast<std::int32_t>(last);
  }

  void choose_manners(const Tenant& tenant, PlannedRequest& request) {
    if (tenants_.uniform() < tenant.cancel_rate) {
      request.cancel_after =
          static_cast<std::int32_t>(tenants_.below(static_cast<std::uint64_t>(request.max_tokens)));
    }
    request.slow_reader = tenants_.uniform() < tenant.slow_reader_rate;
  }

  void push(PlannedRequest request) {
    if (scenario_.max_prompt_tokens > 0) cut_prompt(request.prompt);
    plan_.push_back(std::move(request));
  }
  void cut_prompt(std::vector<PromptSegment>& prompt) const {
    int left = scenario_.max_prompt_tokens;
    for (PromptSegment& segment : prompt) {
      segment.tokens = std::min(segment.tokens, left);
      left -= segment.tokens;
    }
    std::erase_if(prompt, [](const PromptSegment& segment) { return segment.tokens == 0; });
  }

  const Scenario& scenario_;
  Random tenants_;
  Random lengths_;
  double total_weight_ = 0.0;
  std::uint64_t bodies_ = 0;
  std::vector<PlannedRequest> plan_;
};

// Turns of one session belong together; a limit by number cuts between sessions.
bool full(const Scenario& scenario, std::size_t size) {
  return (scenario.requests > 0 && size >= static_cast<std::size_t>(scenario.requests)) ||
         size >= kMaxPlanned;
}

}  // namespace

int PlannedRequest::prompt_tokens() const {
  int total = 0;
  for (const PromptSegment& segment : prompt) total += segment.tokens;
  return total;
}

void append_tokens(const PlannedRequest& request, const TokenRange& range,
                   std::vector<std::int32_t>& out) {
  for (const PromptSegment& segment : request.prompt) {
    Random random(segment.seed);
    for (int i = 0; i < segment.tokens; ++i) {
      out.push_back(range.first + static_cast<std::int32_t>(
                                      random.below(static_cast<std::uint64_t>(range.count))));
    }
  }
}

Result<std::vector<PlannedRequest>> make_plan(const Scenario& scenario,
                                              const std::vector<TraceEntry>& trace) {
  Planner planner(scenario);
  const auto past_end = [&](double at) {
    return scenario.duration_s > 0.0 && at >= scenario.duration_s;
  };
  if (scenario.process == Process::kTrace) {
    for (const TraceEntry& entry : trace) {
      if (full(scenario, planner.size()) || past_end(entry.at_seconds / scenario.time_scale)) break;
      planner.add_entry(entry);
    }
  } else if (scenario.process == Process::kClosed) {
    for (std::size_t i = 0; !full(scenario, planner.size()); ++i) {
      if (scenario.requests <= 0 && i >= kClosedSessions) break;
      planner.add_session(0.0);
    }
  } else {
    ArrivalProcess arrivals(scenario.process, scenario.rate, scenario.cv,
                            mix(scenario.seed, kArrivals));
    for (double at = arrivals.next(); !full(scenario, planner.size()) && !past_end(at);
         at = arrivals.next()) {
      planner.add_session(at);
    }
  }
  if (planner.size() >= kMaxPlanned) {
    return invalid_argument("requests", "more than 20000000 requests");
  }
  if (planner.size() == 0) return invalid_argument("duration_s", "no request falls into it");
  return planner.take();
}

}  // namespace latentd::loadtest
