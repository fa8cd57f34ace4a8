// How a group of GPUs lies on a cluster, and what NCCL's search makes of it. Private to sim/cost.
#pragma once

#include <span>
#include <vector>

#include "sim/cost/nccl_tuning.h"
#include "sim/topology/cluster.h"

namespace longhaul {

/// How neighbours within a node reach one another, at the slowest.
enum class Inside { nothing, nvlink, pcie, staged };

struct Placement {
  /// Members by node: by NVLink domain, or by host where a domain is less than a host.
  std::vector<std::vector<GpuId>> nodes;
  bool even = true;  ///< every node has as many members
  Inside inside = Inside::nothing;
  bool direct = false;        ///< all pairs within a node have NVLinks of their own (a mesh)
  bool over_network = false;  ///< the group spans nodes
  int gpus = 0;
  [[nodiscard]] int per_node() const { return static_cast<int>(nodes.front().size()); }
  [[nodiscard]] int node_count() const { return static_cast<int>(nodes.size()); }
};

Placement place(const Cluster& cluster, std::span<const GpuId> gpus);

/// Members of one node that own a NIC for rings and trees: one per NIC, the first beside it.
std::vector<std::size_t> network_members(const Cluster& cluster, const std::vector<GpuId>& node);

/// Channels, their speeds and what else NCCL's model asks for.
TuningTopology tuning_topology(const Cluster& cluster, const Placement& placement,
                               const TuningConstants& constants);

/// Channels per peer of send/receive and all-to-all.
int peer_channels(const Cluster& cluster, const Placement& placement);

/// Channels that one message of that size takes within a node, in a communicator placed so
/// (NCCL, src/enqueue.cc, scheduleP2pTasksToPlan): a communicator of one node reserves channels for
/// all its peers, and a message gets more than its part only beyond 32 `chunk`s per channel.
int message_channels(const Cluster& cluster, const Placement& communicator,
                     const TuningConstants& constants, Bytes message, Bytes chunk);

}  // namespace longhaul
