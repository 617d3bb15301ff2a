// Reads the output of `latentd-bench --csv` as measurements for the cost model.
//
// Columns are found by name, so that the bench may say more: phase, rows, tokens, context, ms.
#pragma once

#include <string_view>
#include <vector>

#include "base/result.h"
#include "loadtest/sim/cost_model.h"

namespace latentd::loadtest {

// Prompts were cut into pieces of `chunk` tokens a step; routed_share as of experts_read.
// kInvalidArgument with the line at fault.
Result<std::vector<Measurement>> parse_bench_csv(std::string_view text, int chunk,
                                                 double routed_share = 0.0);

}  // namespace latentd::loadtest
