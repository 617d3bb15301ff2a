// Metric families that are read at scrape time: the engine's snapshot and the process itself.
//
// Contract: any thread. Internal to metrics.cc: the one other place that sees prometheus-cpp.
#pragma once

#include <prometheus/metric_family.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "server/server_state.h"

namespace latentd {

struct EngineMetricsSource {
  std::string model_name;
  EngineInfo info;
  std::function<EngineStats()> stats;
};

void append_engine_metrics(const EngineMetricsSource& source,
                           std::vector<prometheus::MetricFamily>& out);

// State, build and process_*.
void append_process_metrics(ServerState state, std::vector<prometheus::MetricFamily>& out);

// When the doors' certificate ends; nothing without one.
void append_certificate_metrics(std::int64_t expiry_unix,
                                std::vector<prometheus::MetricFamily>& out);

}  // namespace latentd
