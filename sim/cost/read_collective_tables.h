// The `tables` section of a transport profile. Private to sim/cost.
#pragma once

#include "sim/cost/transport.h"
#include "sim/input/yaml.h"

namespace longhaul {

/// Reads `tables`, if `root` has it. Tables with mistakes are recorded and left out.
void read_collective_tables(MapReader& root, TransportProfile& profile, Diagnostics& diagnostics);

}  // namespace longhaul
