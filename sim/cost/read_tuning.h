// The `tuning` section of a transport profile. Private to sim/cost.
#pragma once

#include "sim/cost/nccl_tuning.h"
#include "sim/input/yaml.h"

namespace longhaul {

/// Reads `tuning`; mistakes are recorded and leave harmless values.
TuningConstants read_tuning(MapReader& root, Diagnostics& diagnostics);

}  // namespace longhaul
