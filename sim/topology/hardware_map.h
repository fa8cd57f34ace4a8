// Clusters from the `hardware` maps of measured runs (longhaul-runs/1), which name a GPU, how GPUs
// are joined and what leaves the node, but no server.
#pragma once

#include <optional>

#include "sim/input/diagnostic.h"
#include "sim/input/yaml.h"
#include "sim/topology/cluster.h"

namespace longhaul {

/// What a run says of its machine outside the map.
struct HardwareRemarks {
  /// Copies between GPUs go through host memory, unless the map has `pcie_p2p`.
  bool peer_access_off = false;
  /// nics_per_node is no statement: a single adapter is what was written for want of a number, and
  /// the usual server's count is taken; any other count was inferred from something.
  bool nics_unknown = false;
};

/// Keys: device, gpus (of the run), gpus_per_node, intra_node (nvswitch | nvlink | nvlink_mesh |
/// pcie), nics_per_node and nic_rate (absent: the usual server's), fabric (none | infiniband | roce
/// | efa | unknown), pcie_p2p (true | same_switch | false). The host is that of the usual server of
/// the device's generation; the fabric is non-blocking and, unless EFA, rail-optimised; what is
/// `unknown` is taken for InfiniBand, and a note says so. Up to four PCIe cards sit on the sockets,
/// without switches between them, so that by NCCL's default none copies to another directly. Nodes are whole: the cluster may have
/// more GPUs than the run. Records what is wrong and then returns nothing.
std::optional<Cluster> cluster_from_hardware(const YamlValue& hardware, Diagnostics& diagnostics,
                                             const HardwareRemarks& remarks = {});

}  // namespace longhaul
