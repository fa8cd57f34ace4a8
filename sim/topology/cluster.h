// A cluster as a directed graph: GPUs, NVSwitches, PCIe switches, CPU sockets, NICs,
// leaf and spine switches; links with a bandwidth and a latency; routes as NCCL takes them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sim/topology/device.h"
#include "sim/units/id.h"
#include "sim/units/quantity.h"

namespace longhaul {

struct ClusterSpec;

/// `nvswitch`: the switch chips of one NVLink domain, merged. `nic`: all NICs of one GPU, merged.
/// `spine_switch`: everything above the leaves, merged; never the bottleneck itself.
enum class VertexKind {
  gpu,
  nvswitch,
  pcie_switch,
  cpu,
  nic,
  leaf_switch,
  spine_switch,
  host_memory
};
/// `c2c`: NVLink-C2C between a GPU and its CPU. `host_memory`: between a CPU and its memory.
enum class LinkKind { nvlink, pcie, cpu_bus, network, c2c, host_memory };

/// One directed link. `bandwidth` is nominal; what a protocol achieves on it is the transport
/// profile's business (sim/cost).
struct Link {
  LinkId id;
  LinkKind kind = LinkKind::nvlink;
  std::string from;  ///< names of its two ends, "node0.gpu3", "node0.nvswitch"
  std::string to;
  BytesPerSecond bandwidth;
  Seconds latency;
};

/// What a path goes through at its slowest, after NCCL's path types (nearest first). pcie_host:
/// through the CPU without touching its memory; cross_socket: through two CPUs; host_staged:
/// written to host memory and read back, where PCIe peer access is not allowed (NCCL: SHM).
enum class PathClass { self, nvlink, pcie_switch, pcie_host, cross_socket, host_staged, network };

/// A route between two GPUs.
struct Route {
  std::vector<LinkId> links;  ///< directed, in order; empty for a GPU to itself
  Seconds latency;            ///< sum of the links' latencies
  PathClass path_class = PathClass::self;
  int network_hops = 0;  ///< network switches crossed
};

/// A checked cluster. Immutable; routes are computed on first use and cached.
class Cluster {
 public:
  [[nodiscard]] const std::string& name() const;
  [[nodiscard]] int gpu_count() const;
  [[nodiscard]] int node_count() const;
  [[nodiscard]] int gpus_per_node() const;
  /// GPUs joined by NVLink into one domain (8 in a DGX, 72 in an NVL72, 1 without NVLink).
  [[nodiscard]] int nvlink_domain_size() const;
  [[nodiscard]] const Device& device() const;
  [[nodiscard]] int node_of(GpuId gpu) const;  ///< the host (OS image) a GPU belongs to
  [[nodiscard]] int nvlink_domain_of(GpuId gpu) const;
  [[nodiscard]] int local_index(GpuId gpu) const;  ///< index of the GPU within its node
  [[nodiscard]] int nics_per_node() const;
  [[nodiscard]] BytesPerSecond nic_bandwidth() const;  ///< of one NIC, per direction; zero if none
  /// The transport profile (sim/cost) that the cluster names; "nccl" unless it says otherwise.
  [[nodiscard]] const std::string& transport() const;
  /// What it was built from.
  [[nodiscard]] const ClusterSpec& spec() const;
  /// All directed links, by LinkId. Their order is fixed by the specification.
  [[nodiscard]] std::span<const Link> links() const;
  /// The route NCCL would take: NVLink before PCIe, the NIC on the same PCIe switch, the same
  /// rail (PXN: through NVLink to the GPU that sits on the destination's rail).
  [[nodiscard]] const Route& route(GpuId from, GpuId to) const;
  /// The slowest link of a route; infinite for a GPU to itself.
  [[nodiscard]] BytesPerSecond bandwidth(const Route& route) const;
  /// Between a GPU and its host's memory, each way (offload): PCIe or C2C, then the memory's own
  /// link. Its class is pcie_host.
  [[nodiscard]] const Route& host_route(GpuId gpu, bool to_host) const;
  /// How two GPUs are joined, in the words of nvidia-smi topo -m and NCCL: X (itself), NV# (that
  /// many NVLinks), NVB (NVLink through another GPU), C2C (coherent link through a CPU), PIX, PXB,
  /// PHB, NODE, SYS (PCIe, nearest first; also where PCIe peer access is not allowed) or NET.
  [[nodiscard]] std::string path_name(GpuId from, GpuId to) const;
  /// True if the GPUs copy directly within their node: over NVLink, or over PCIe as far as peer
  /// access is allowed. Copies between others of a node are staged in host memory.
  [[nodiscard]] bool has_peer_access(GpuId from, GpuId to) const;
  /// The most GPUs of a node that share a PCIe switch (or, without switches, a socket).
  [[nodiscard]] int gpus_per_switch() const;
  /// The most that `senders` can send to `receivers` at once: the maximum flow over the links that
  /// the routes between them use. At most bisection_limit GPUs in all, none of them twice
  /// (checked).
  [[nodiscard]] BytesPerSecond flow_between(std::span<const GpuId> senders,
                                            std::span<const GpuId> receivers) const;
  /// flow_between() the first half of the GPUs and the second. Nothing if the cluster has one GPU
  /// or more than bisection_limit.
  [[nodiscard]] std::optional<BytesPerSecond> bisection_bandwidth() const;
  /// The most that the NICs of the first half of the nodes can send to those of the second through
  /// the fabric's links alone, whatever the nodes could deliver; of any size. Nothing without a
  /// fabric or with one node.
  [[nodiscard]] std::optional<BytesPerSecond> fabric_bisection() const;
  static constexpr int bisection_limit = 512;
  /// Origins of the files it was built from: "path sha256".
  [[nodiscard]] const std::vector<std::string>& origins() const;

  struct Graph;  ///< Boost.Graph inside; see cluster.cpp
  explicit Cluster(std::shared_ptr<const Graph> graph);

 private:
  std::shared_ptr<const Graph> graph_;
};

}  // namespace longhaul
