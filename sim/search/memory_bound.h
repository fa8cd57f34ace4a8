// A lower bound on the peak memory of a scenario, without simulating it.
#pragma once

#include "sim/scenario/scenario.h"
#include "sim/units/quantity.h"

namespace longhaul {

/// Walks rank 0's program in order, releasing at once what the engine may only release later, and
/// leaves out kernels' workspaces and communicators: never more than the simulated peak, so a plan
/// whose bound exceeds the device's memory does not fit and need not be simulated.
Bytes memory_lower_bound(const Scenario& scenario);

}  // namespace longhaul
