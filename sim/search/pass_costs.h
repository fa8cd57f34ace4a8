// What the passes of a zero-bubble pipeline cost, for schedules that are planned from it.
#pragma once

#include <optional>

#include "sim/cost/collective.h"
#include "sim/cost/kernel.h"
#include "sim/scenario/scenario.h"

namespace longhaul {

/// If its schedule is planned (zb_1p, zb_2p), the scenario with the costs of its passes, measured as the
/// stack does it: in a first step of zb_1p whose lists are planned for passes of equal length. A message's time
/// is that of all stages sending at once. Nothing for other schedules.
std::optional<Scenario> with_pass_costs(const Scenario& scenario, const KernelCosts& kernels,
                         const TransportCosts& transport);

}  // namespace longhaul
