// The `tables` section of a transport profile. Private to sim/cost.
#pragma once

#include "sim/cost/transport.h"
#include "sim/input/yaml.h"

namespace longhaul {

/// Reads `tables`, if `root` has it. Tables with mistakes are recorded. An item `file: NAME` stands
/// for the tables of that file (read_table_file) beside `source`.
void read_collective_tables(MapReader& root, const SourcePtr& source, TransportProfile& profile,
                            Diagnostics& diagnostics);

}  // namespace longhaul
