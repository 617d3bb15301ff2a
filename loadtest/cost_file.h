// Cost files: a cost model (sim/cost_model.h) as JSON, and how it is fitted to load tests.
//
// A report of a run against latentd says what the engine's steps did in all and how long they took:
// one measurement each (what attention read follows from the lengths). So a handful of short runs
// of different mixes (long prompts, long answers, few and many users) calibrates a model of the
// server as it is, doors and all.
//
// Contract: pure functions. Errors: kInvalidArgument with the field.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "loadtest/sim/cost_model.h"

namespace latentd::loadtest {

// Fits steps to the reports' engine figures. The door is the least that a first token came later
// than its prefill took, over the runs: that of requests that waited for nobody.
// routed_share as of experts_read.
Result<Fit> fit_to_reports(const std::vector<std::string>& reports, double routed_share = 0.0);

std::string cost_json(const Fit& fit, std::size_t measurements);
Result<CostModel> parse_cost_json(std::string_view json);

// "step,row,token,row_pair,token_pair" in microseconds.
Result<CostModel> parse_cost_list(const std::string& text);

}  // namespace latentd::loadtest
