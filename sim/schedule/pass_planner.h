// A greedy planner of zero-bubble pipelines.
#pragma once

#include "sim/schedule/pass_lists.h"

namespace longhaul {

/// Lists of several habits, whose stages begin no F that would hold more than memory_limit(costs, limit);
/// one micro-batch they always hold. A habit says how many F each stage may run ahead of its B, and by
/// how much W may overrun the gap that it fills.
std::vector<PassLists> greedy_lists(const PassCosts& costs, std::int64_t micro_batches,
                                    std::int64_t limit);

}  // namespace longhaul
