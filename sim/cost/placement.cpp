// Channel search: a closed form of what NCCL's search (src/graph/search.cc) finds on the regular
// wirings of this house; docs/models/collectives.md lists what it does not reproduce.
#include "sim/cost/placement.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "sim/topology/cluster_spec.h"

namespace longhaul {

namespace {

Inside inside_of(const Cluster& cluster, const std::vector<GpuId>& members) {
  Inside worst = members.size() < 2 ? Inside::nothing : Inside::nvlink;
  for (std::size_t i = 0; i + 1 < members.size(); ++i) {
    switch (cluster.route(members[i], members[i + 1]).path_class) {
      case PathClass::nvlink: break;
      case PathClass::host_staged: return Inside::staged;
      default: worst = Inside::pcie; break;
    }
  }
  return worst;
}

bool all_direct(const Cluster& cluster, const std::vector<GpuId>& members) {
  for (const GpuId peer : members) {
    const Route& route = cluster.route(members.front(), peer);
    if (peer != members.front() &&
        (route.path_class != PathClass::nvlink || route.links.size() != 1)) {
      return false;
    }
  }
  return members.size() > 1;
}

// NVLinks of a GPU towards the other members, each way, as NCCL counts them.
double nvlinks(const Cluster& cluster, const Placement& placement) {
  const Device& device = cluster.device();
  const auto& members = placement.nodes.front();
  if (!placement.direct) {
    const int used = cluster.spec().node.nvlink.links_per_gpu;
    return used > 0 ? used : device.nvlink_links;
  }
  double links = 0.0;
  for (std::size_t i = 1; i < members.size(); ++i) {
    const Route& route = cluster.route(members[0], members[i]);
    links +=
        cluster.bandwidth(route).value() * device.nvlink_links / device.nvlink_bandwidth.value();
  }
  return std::round(links);
}

// NCCL counts a PCIe lane of generation 3, 4, 5 as 0.75, 1.5, 3 GB/s, the data sheets as 0.984 ...
constexpr double pcie_count = 12.0 / 15.75;

// The most that a GPU sends to its neighbours in the node.
double inside_bandwidth(const Cluster& cluster, const Placement& placement,
                        const ArchitectureTuning& architecture) {
  if (placement.inside == Inside::nvlink) {
    return nvlinks(cluster, placement) * architecture.nvlink_link.value();
  }
  const BytesPerSecond slot = cluster.spec().node.pcie.gpu_slot;
  const BytesPerSecond used = slot > BytesPerSecond() ? slot : cluster.device().pcie_bandwidth;
  return used.value() * pcie_count;
}

// The channels that carry most; of these the fewest, which are the fastest. A search that finds
// nothing takes the slowest speed.
ChannelGraph search(double total, const std::vector<BytesPerSecond>& speeds, int limit) {
  ChannelGraph best{1, speeds.back(), speeds.back()};
  double carried = 0.0;
  for (const BytesPerSecond speed : speeds) {
    const int channels = std::min(limit, static_cast<int>(total / speed.value() + 1e-9));
    if (channels > 0 && channels * speed.value() > carried * (1.0 + 1e-9)) {
      carried = channels * speed.value();
      best = {channels, speed, speed};
    }
  }
  return best;
}

// Whether LL128 is safe on the way to the NIC: NCCL wants no CPU in between, except over C2C on
// Hopper and newer.
bool nic_beside_gpu(const Cluster& cluster, const Placement& placement,
                    const ArchitectureTuning& architecture) {
  const Route& route = cluster.route(placement.nodes[0].front(), placement.nodes[1].front());
  bool cpu = false;
  bool coherent = false;
  for (const LinkId id : route.links) {
    const Link& link = cluster.links()[id.index];
    cpu = cpu || link.from.find(".cpu") != std::string::npos;
    coherent = coherent || link.kind == LinkKind::c2c;
  }
  return !cpu || (coherent && architecture.nvls_efficiency > 0.0);
}

BytesPerSecond fastest_below(double limit, const std::vector<BytesPerSecond>& speeds) {
  for (const BytesPerSecond speed : speeds) {
    if (speed.value() <= limit * (1.0 + 1e-9)) {
      return speed;
    }
  }
  return speeds.back();
}

ChannelGraph duplicated(ChannelGraph graph, const TuningConstants& constants, int limit) {
  if (graph.intra >= constants.duplicate_from && 2 * graph.channels <= limit) {
    graph.channels *= 2;
    graph.intra *= 0.5;
    graph.inter *= 0.5;
  }
  return graph;
}

constexpr int graph_limit = 16;  // channels of a graph: half of the 32 that a communicator has

void search_one_node(const Cluster& cluster, const Placement& placement,
                     const TuningConstants& constants, TuningTopology& topology) {
  const ArchitectureTuning& architecture = constants.architecture(cluster.device().architecture);
  const double total = inside_bandwidth(cluster, placement, architecture);
  topology.ring =
      duplicated(search(total, architecture.one_node, graph_limit), constants, graph_limit);
  topology.tree = topology.ring;
  if (placement.gpus == 2 && placement.inside == Inside::nvlink) {
    // A tree of two uses each direction once: twice the channels of a ring, as far as they go.
    topology.tree = search(2.0 * total, architecture.one_node, topology.ring.channels);
  }
  // Every head also serves all others: heads + 1 shares of the links.
  topology.nvls.channels = placement.gpus;
  topology.nvls.intra = fastest_below(total / (placement.gpus + 1), architecture.one_node);
  topology.nvls.inter = architecture.one_node.front();
}

void search_many_nodes(const Cluster& cluster, const Placement& placement,
                       const TuningConstants& constants, TuningTopology& topology) {
  const ArchitectureTuning& architecture = constants.architecture(cluster.device().architecture);
  const auto& first = placement.nodes.front();
  const int nics = static_cast<int>(network_members(cluster, first).size());
  double speed = rail_bandwidth(cluster.spec().node).value();
  if (placement.per_node() > 1) {
    speed = std::min(speed, inside_bandwidth(cluster, placement, architecture) / nics);
  }
  const BytesPerSecond channel = fastest_below(speed, architecture.many_nodes);
  topology.ring = {nics, channel, channel};
  topology.tree = topology.ring;
  if (placement.per_node() > 1) {
    // The search raises the speed of trees within a node as far as it goes.
    topology.tree.intra =
        std::max(channel, fastest_below(inside_bandwidth(cluster, placement, architecture) / nics,
                                        architecture.many_nodes));
  }
  topology.nvls = {placement.per_node(), channel, channel};
}

}  // namespace

Placement place(const Cluster& cluster, std::span<const GpuId> gpus) {
  const bool domains = cluster.nvlink_domain_size() >= cluster.gpus_per_node();
  std::map<int, std::vector<GpuId>> by_node;
  for (const GpuId gpu : gpus) {
    by_node[domains ? cluster.nvlink_domain_of(gpu) : cluster.node_of(gpu)].push_back(gpu);
  }
  Placement placement;
  placement.gpus = static_cast<int>(gpus.size());
  for (auto& [node, members] : by_node) {
    // NCCL lays its rings by the wiring, whatever the ranks' order; GPUs are numbered by wiring.
    std::sort(members.begin(), members.end());
    placement.nodes.push_back(std::move(members));
  }
  for (const auto& members : placement.nodes) {
    placement.even = placement.even && members.size() == placement.nodes.front().size();
    // The node with most members says how they are joined.
    if (members.size() > 1 && placement.inside == Inside::nothing) {
      placement.inside = inside_of(cluster, members);
      placement.direct = all_direct(cluster, members);
    }
  }
  placement.over_network = placement.nodes.size() > 1;
  return placement;
}

std::vector<std::size_t> network_members(const Cluster& cluster, const std::vector<GpuId>& node) {
  const NodeSpec& spec = cluster.spec().node;
  const int nics = std::max(1, rails(spec));
  const int gpus = spec.gpus;
  std::vector<std::size_t> owners;
  std::set<std::pair<int, int>> taken;
  for (std::size_t i = 0; i < node.size(); ++i) {
    const int nic = cluster.local_index(node[i]) * nics / gpus;
    if (taken.insert({cluster.node_of(node[i]), nic}).second) {
      owners.push_back(i);
    }
  }
  return owners;
}

TuningTopology tuning_topology(const Cluster& cluster, const Placement& placement,
                               const TuningConstants& constants) {
  const ArchitectureTuning& architecture = constants.architecture(cluster.device().architecture);
  TuningTopology topology;
  topology.ranks = placement.gpus;
  topology.nodes = placement.node_count();
  topology.nvlink = placement.inside == Inside::nvlink ||
                    (placement.inside == Inside::nothing && cluster.nvlink_domain_size() > 1);
  topology.ll128 = topology.nvlink;
  topology.in_switch = placement.inside == Inside::nvlink && !placement.direct &&
                       architecture.nvls_efficiency > 0.0 &&
                       cluster.spec().node.nvlink.wiring == NvlinkWiring::switched;
  if (placement.over_network) {
    topology.ll128 = topology.ll128 && nic_beside_gpu(cluster, placement, architecture);
    search_many_nodes(cluster, placement, constants, topology);
  } else {
    search_one_node(cluster, placement, constants, topology);
  }
  return topology;
}

int peer_channels(const Cluster& cluster, const Placement& placement) {
  if (placement.over_network) {
    return 2;  // what NCCL printed on every multi-node machine observed
  }
  if (placement.inside != Inside::nvlink) {
    return 2;
  }
  const double links = placement.direct ? nvlinks(cluster, placement) / (placement.per_node() - 1)
                                        : nvlinks(cluster, placement);
  const auto wanted = static_cast<unsigned>(2.0 * std::max(1.0, links));
  return static_cast<int>(std::min(32U, std::bit_ceil(wanted)));
}

int message_channels(const Cluster& cluster, const Placement& communicator,
                     const TuningConstants& constants, Bytes message, Bytes chunk) {
  int most = peer_channels(cluster, communicator);
  if (communicator.over_network) {
    return most;
  }
  const TuningTopology topology = tuning_topology(cluster, communicator, constants);
  const auto rings = static_cast<unsigned>(2 * topology.ring.channels);
  const int all = static_cast<int>(std::min(32U, std::bit_ceil(rings)));
  most = std::min(most, all);
  int channels = most;
  while (channels > 1 && channels * communicator.gpus > all) {
    channels /= 2;
  }
  constexpr double chunks = 32.0;
  while (channels <= most / 2 && message.value() > chunks * chunk.value() * channels) {
    channels *= 2;
  }
  return channels;
}

}  // namespace longhaul
