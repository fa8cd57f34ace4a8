// From a checked scenario to a program. From here on there are no methods, only instructions.
#pragma once

#include "sim/program/program.h"
#include "sim/scenario/scenario.h"

namespace longhaul {

/// Lowers any scenario that check_scenario accepts. Throws InputError with one diagnostic for a
/// combination that has no schedule yet (pipeline > 1, decode), naming it.
Program lower(const Scenario& scenario);

}  // namespace longhaul
