// Which GPU sends how much to which, by algorithm: the flows of a collective, without rates and
// latencies. Private to sim/cost.
#pragma once

#include <vector>

#include "sim/cost/collective.h"
#include "sim/cost/placement.h"

namespace longhaul {

/// What flows, and how often data changes hands one after the other.
struct FlowPattern {
  std::vector<PlannedFlow> flows;  ///< links and bytes only
  double own = 0.0;                ///< a GPU's own piece, which it copies, over what it sends
  double steps = 0.0;              ///< within a node
  double network_steps = 0.0;
};

/// A ring; all its channels at once, as a fluid.
FlowPattern ring_traffic(const Cluster& cluster, const CollectiveRequest& request,
                     const Placement& placement);
/// An all-reduce by trees.
FlowPattern tree_traffic(const Cluster& cluster, const CollectiveRequest& request,
                     const Placement& placement);
/// An all-reduce in the NVSwitches, with trees between nodes.
FlowPattern in_switch_traffic(const Cluster& cluster, const CollectiveRequest& request,
                          const Placement& placement);
FlowPattern pairwise_traffic(const Cluster& cluster, const CollectiveRequest& request,
                         const Placement& placement);
FlowPattern message_traffic(const Cluster& cluster, const CollectiveRequest& request);

}  // namespace longhaul
