// How long the links of a collective are busy. Private to sim/cost.
#pragma once

#include "sim/cost/collective_flows.h"
#include "sim/cost/transport.h"

namespace longhaul {

/// Shares of nominal bandwidth that one collective reaches, by where a link lies.
struct Reach {
  Behaviour within;           ///< `share` as it is for the protocol
  double network = 1.0;       ///< of the fabric's links
  double through_host = 1.0;  ///< of PCIe towards a NIC behind the CPU
};

/// How long the busiest links need.
struct Loads {
  double inside = 0.0;   ///< s, of links within nodes
  double network = 0.0;  ///< s, of links between nodes and on the way to a NIC
  double least = 0.0;    ///< s, at all that the links can carry
};

Loads loads_of(const TransportProfile& profile, const Cluster& cluster, const FlowPattern& traffic,
               const Reach& reach);

/// Share of its nominal bandwidth that a link carries at most.
double usable_share(const TransportProfile& profile, LinkKind kind);

/// Latency of the fabric's links, of the longest route.
double wire_latency(const Cluster& cluster, const FlowPattern& traffic);

}  // namespace longhaul
