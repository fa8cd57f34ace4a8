// How long a flow takes with every link to itself: the closed form that the solver must agree with.
#pragma once

#include <vector>

#include "sim/network/flow_network.h"

namespace longhaul {

/// Latency, then the bytes at the slowest of the links (capacity over weight) and the cap:
///   t = latency + bytes / min(rate_cap, min_i capacities[links_i] / weights_i).
/// `capacities[i]` is that of LinkId(i). Equal to the simulated time of a flow that shares no link,
/// and a lower bound for every other.
Seconds uncongested_time(const FlowSpec& flow, const std::vector<BytesPerSecond>& capacities);

}  // namespace longhaul
