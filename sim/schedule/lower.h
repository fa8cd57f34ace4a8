// From a checked scenario to a program. From here on there are no methods, only instructions.
#pragma once

#include "sim/program/program.h"
#include "sim/scenario/scenario.h"

namespace longhaul {

/// Lowers any scenario that check_scenario accepts (which refuses what has no schedule).
Program lower(const Scenario& scenario);

}  // namespace longhaul
