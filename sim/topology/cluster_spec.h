// A cluster as plain data, before it becomes a graph: what the YAML files say, and what a
// program may put together itself. build_cluster() turns it into vertices and links.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sim/topology/cluster.h"
#include "sim/topology/device.h"
#include "sim/units/quantity.h"

namespace longhaul {

/// How NVLink joins GPUs. switched: every GPU to one (merged) NVSwitch; mesh: direct links between
/// all GPUs of a node; pairs: bridges between GPUs 0-1, 2-3, ...; listed: the pairs that are given.
enum class NvlinkWiring { none, switched, mesh, pairs, listed };

/// Direct links between two GPUs of a node; a < b.
struct NvlinkPair {
  int a = 0;
  int b = 0;
  int links = 0;  ///< each nvlink_bandwidth / nvlink_links of the device
  bool operator==(const NvlinkPair&) const = default;
};

struct NvlinkSpec {
  NvlinkWiring wiring = NvlinkWiring::none;
  int links_per_pair = 0;  ///< mesh: links of two GPUs, each nvlink_bandwidth / nvlink_links
  int links_per_gpu = 0;   ///< switched: links of a GPU to the NVSwitches; 0: all it has
  std::vector<NvlinkPair> listed;  ///< listed: by a, then b
  int domain_nodes = 1;  ///< switched: nodes that share one NVSwitch fabric (18 in an NVL72)
  Seconds latency;       ///< of one link
};

/// CPU sockets, every two joined by a bus; each with its memory.
struct HostSpec {
  int sockets = 1;
  int cores = 0;                    ///< physical ones of all sockets; 0: not known
  Bytes memory;                     ///< of all sockets; zero: not known
  BytesPerSecond memory_bandwidth;  ///< of one socket; reads and writes may each use all of it
  Seconds memory_latency;
  BytesPerSecond bus_bandwidth;  ///< between two sockets, per direction; unused with one socket
  Seconds bus_latency;
  /// Of one thread, against the Xeon Platinum 8480C of a DGX H100: what launches kernels.
  double speed = 1.0;
};

/// Which GPUs without NVLink between them copy directly over PCIe. What may not is staged through
/// host memory. NCCL's default is same_switch (PXB).
enum class PeerAccess { everywhere, same_switch, never };

/// GPUs are dealt to switches, and switches to sockets, in equal blocks.
struct PcieSpec {
  int switches = 0;              ///< per node; 0: GPUs sit on the sockets
  BytesPerSecond gpu_slot;       ///< of one GPU, per direction; zero: the device's pcie_bandwidth
  BytesPerSecond switch_uplink;  ///< of one switch to its socket, per direction
  BytesPerSecond nic_slot;       ///< of one NIC, per direction; zero: the device's pcie_bandwidth
  Seconds latency;               ///< of one PCIe link
  PeerAccess peer_access = PeerAccess::same_switch;
};

/// NVLink-C2C between a GPU and its socket, instead of PCIe. Zero bandwidth: none.
struct C2cSpec {
  BytesPerSecond bandwidth;  ///< of one GPU, per direction
  Seconds latency;
};

/// Network adapters for traffic between GPUs. `count` divides, or is a multiple of, the GPUs of the
/// node. With more NICs than GPUs, the NICs of one GPU become one logical NIC of summed bandwidth.
struct NicSpec {
  int count = 0;             ///< per node
  BytesPerSecond bandwidth;  ///< of one, per direction
  bool gpudirect = true;     ///< GPUDirect RDMA where the wiring allows it; else through the host
};

/// Where something is plugged in: a socket ("cpu1", "cpu1.bridge0") or a PCIe switch ("pcie3").
struct Seat {
  enum class Kind { socket, pcie_switch };
  Kind kind = Kind::socket;
  int index = 0;
  /// Of a socket: the host bridge, where the file tells. Seats without one have each their own.
  std::optional<int> bridge;
  bool operator==(const Seat&) const = default;
};
std::string format_seat(const Seat& seat);

/// A switch hangs on a socket or on a switch of a lower number.
struct SwitchPlace {
  Seat seat;
  BytesPerSecond uplink;  ///< per direction; zero: pcie.switch_uplink
};
struct GpuPlace {
  Seat seat;
  BytesPerSecond slot;  ///< per direction; zero: pcie.gpu_slot
};
struct NicPlace {
  std::string name;
  Seat seat;
  BytesPerSecond rate;   ///< per direction; zero: nics.bandwidth
  BytesPerSecond slot;   ///< per direction; zero: pcie.nic_slot
  bool storage = false;  ///< carries no traffic between GPUs: kept in the file, not in the graph
};

/// Where every part of a node sits, for nodes that are not dealt in equal blocks. Its sizes are
/// pcie.switches, gpus and nics.count.
struct Layout {
  std::vector<SwitchPlace> switches;
  std::vector<GpuPlace> gpus;
  std::vector<NicPlace> nics;
};

struct NodeSpec {
  std::string name;
  std::string title;
  Device device;
  int gpus = 1;
  NvlinkSpec nvlink;
  HostSpec host;
  PcieSpec pcie;
  C2cSpec c2c;
  NicSpec nics;
  std::optional<Layout> layout;  ///< absent: equal blocks
};

/// rail_optimised: NIC r of every node of a scalable unit goes to leaf r of the unit. fat_tree: the
/// NICs of neighbouring nodes fill a leaf. Leaves meet in one logical spine.
enum class FabricWiring { none, rail_optimised, fat_tree };

struct FabricSpec {
  std::string name;
  FabricWiring wiring = FabricWiring::none;
  std::string technology;         ///< infiniband | roce | efa
  int leaf_ports = 32;            ///< ports of a leaf towards NICs; rail_optimised: nodes of a unit
  double oversubscription = 1.0;  ///< bandwidth of a leaf's ports over that of its uplinks, >= 1
  Seconds nic_latency;            ///< between NIC and leaf, one way: adapter, cable, switch
  Seconds uplink_latency;         ///< between leaf and spine, one way
};

struct ClusterSpec {
  std::string name;
  NodeSpec node;
  FabricSpec fabric;
  int nodes = 1;
  std::string transport = "nccl";    ///< transport profile of sim/cost
  std::vector<std::string> origins;  ///< "path sha256" of each file that was read
};

/// What cannot be built, in words for the user. `key` is where a file says it: "gpus", "nvlink",
/// "host", "pcie", "nics", "fabric", "nodes".
struct SpecProblem {
  std::string key;
  std::string code;
  std::string message;
  std::string help;
};
std::vector<SpecProblem> find_problems(const NodeSpec& node);
std::vector<SpecProblem> find_problems(const ClusterSpec& cluster);

/// GPUs of a node that share a switch (or, without switches, a socket); with a layout, the most
/// that do.
int gpus_per_switch(const NodeSpec& node);
/// Logical NICs of a node: at most one per GPU.
int rails(const NodeSpec& node);
/// Bandwidth of a logical NIC, per direction; of the slowest, if a layout makes them differ.
BytesPerSecond rail_bandwidth(const NodeSpec& node);

/// The most GPUs that a cluster may have: what 32-bit link ids hold with room to spare.
inline constexpr int gpu_limit = 1 << 20;

/// Builds the graph. find_problems() of the specification must be empty (checked).
Cluster build_cluster(ClusterSpec spec);

}  // namespace longhaul
