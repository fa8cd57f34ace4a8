// Measured collectives of a profile: finding the table for a group, and its time for a size.
// Private to sim/cost and tests.
#pragma once

#include "sim/cost/placement.h"
#include "sim/cost/transport.h"

namespace longhaul {

/// The first table of the profile for this collective on groups of this shape on these devices (and
/// fabric); null: none.
const CollectiveTable* find_table(const TransportProfile& profile, const Cluster& cluster,
                                  const Placement& placement, CollectiveKind kind);

/// Linear in the logarithms between points. Smaller sizes take as long as the smallest; larger ones
/// go on at the bandwidth of the last two points.
Seconds table_time(const CollectiveTable& table, Bytes bytes);

}  // namespace longhaul
