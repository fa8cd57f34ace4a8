// From a specification to vertices and links.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "sim/topology/cluster_graph.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

/// Adds vertices and links in a fixed order, so that ids depend on the specification alone.
class Builder {
 public:
  explicit Builder(Cluster::Graph& graph) : graph_(graph), node_(graph.spec.node) {}

  void build() {
    reserve();
    for (int node = 0; node < graph_.spec.nodes; ++node) {
      add_host(node);
      add_switches(node);
      add_gpus(node);
      add_nics(node);
    }
    add_nvlink();
    add_fabric();
    sort_links();
  }

 private:
  /// A vector that doubles needs half as much memory again while it moves.
  void reserve() {
    const auto nodes = static_cast<std::size_t>(graph_.spec.nodes);
    const NodeWiring& wiring = graph_.node;
    const auto gpus = static_cast<std::size_t>(node_.gpus);
    const std::size_t sockets = static_cast<std::size_t>(node_.host.sockets);
    const std::size_t vertices =
        nodes * (2 * sockets + wiring.switches.size() + gpus + wiring.rails.size() + 1);
    std::size_t pairs = sockets + sockets * (sockets - 1) / 2 + wiring.switches.size() + gpus +
                        2 * wiring.rails.size();
    switch (node_.nvlink.wiring) {
      case NvlinkWiring::none: break;
      case NvlinkWiring::switched: pairs += gpus; break;
      case NvlinkWiring::mesh: pairs += gpus * (gpus - 1) / 2; break;
      case NvlinkWiring::pairs: pairs += gpus / 2; break;
      case NvlinkWiring::listed: pairs += node_.nvlink.listed.size(); break;
    }
    // One uplink per leaf, and every unit may have an unfilled leaf per rail.
    const std::size_t rails = wiring.rails.size();
    const std::size_t units = nodes / static_cast<std::size_t>(graph_.spec.fabric.leaf_ports) + 1;
    const std::size_t leaves = (units + 1) * rails + 1;
    graph_.kinds.reserve(vertices + leaves);
    graph_.parent.reserve(vertices + leaves);
    graph_.names.reserve(vertices + leaves);
    graph_.links.reserve(2 * (pairs * nodes + leaves));
    graph_.ends.reserve(2 * (pairs * nodes + leaves));
  }

  Vertex add(VertexKind kind, std::string name, Vertex parent = no_vertex) {
    graph_.kinds.push_back(kind);
    graph_.parent.push_back(parent);
    graph_.names.push_back(std::move(name));
    return static_cast<Vertex>(graph_.kinds.size() - 1);
  }

  /// One link in each direction.
  void join(Vertex a, Vertex b, LinkKind kind, BytesPerSecond bandwidth, Seconds latency) {
    for (const auto& [from, to] : {std::pair(a, b), std::pair(b, a)}) {
      const LinkId id(graph_.links.size());
      graph_.links.push_back({id, kind, graph_.names[from], graph_.names[to], bandwidth, latency});
      graph_.ends.push_back(to);
    }
  }

  void add_host(int node) {
    const HostSpec& host = node_.host;
    const std::size_t first = graph_.cpus.size();
    for (int i = 0; i < host.sockets; ++i) {
      const Vertex cpu = add(VertexKind::cpu, fmt::format("node{}.cpu{}", node, i));
      const Vertex memory =
          add(VertexKind::host_memory, fmt::format("node{}.memory{}", node, i), cpu);
      join(cpu, memory, LinkKind::host_memory, host.memory_bandwidth, host.memory_latency);
      for (std::size_t other = first; other < graph_.cpus.size(); ++other) {
        join(graph_.cpus[other], cpu, LinkKind::cpu_bus, host.bus_bandwidth, host.bus_latency);
      }
      graph_.cpus.push_back(cpu);
      graph_.memories.push_back(memory);
    }
  }

  void add_switches(int node) {
    for (std::size_t i = 0; i < graph_.node.switches.size(); ++i) {
      const SwitchPlace& place = graph_.node.switches[i];
      const Vertex above = seat(node, place.seat);
      const Vertex pcie =
          add(VertexKind::pcie_switch, fmt::format("node{}.pcie{}", node, i), above);
      join(pcie, above, LinkKind::pcie, place.uplink, node_.pcie.latency);
      graph_.switches.push_back(pcie);
    }
  }

  [[nodiscard]] Vertex seat(int node, const Seat& seat) const {
    const bool switched = seat.kind == Seat::Kind::pcie_switch;
    const std::size_t per_node =
        switched ? graph_.node.switches.size() : static_cast<std::size_t>(node_.host.sockets);
    return (switched ? graph_.switches
                     : graph_.cpus)[static_cast<std::size_t>(node) * per_node + seat.index];
  }

  void add_gpus(int node) {
    const bool coherent = node_.c2c.bandwidth > BytesPerSecond{};
    for (std::size_t i = 0; i < graph_.node.gpus.size(); ++i) {
      const GpuPlace& place = graph_.node.gpus[i];
      const Vertex above = seat(node, place.seat);
      const Vertex gpu = add(VertexKind::gpu, fmt::format("node{}.gpu{}", node, i), above);
      if (coherent) {
        join(gpu, above, LinkKind::c2c, node_.c2c.bandwidth, node_.c2c.latency);
      } else {
        join(gpu, above, LinkKind::pcie, place.slot, node_.pcie.latency);
      }
      graph_.gpus.push_back(gpu);
    }
  }

  void add_nics(int node) {
    for (std::size_t i = 0; i < graph_.node.rails.size(); ++i) {
      const Rail& rail = graph_.node.rails[i];
      const Vertex above = seat(node, rail.seat);
      const Vertex nic = add(VertexKind::nic, fmt::format("node{}.nic{}", node, i), above);
      join(nic, above, LinkKind::pcie, rail.slots, node_.pcie.latency);
      graph_.nics.push_back(nic);
    }
  }

  void add_nvlink() {
    switch (node_.nvlink.wiring) {
      case NvlinkWiring::none: return;
      case NvlinkWiring::switched: return add_nvswitches();
      case NvlinkWiring::mesh: return add_mesh(node_.gpus, links(node_.nvlink.links_per_pair));
      case NvlinkWiring::pairs: return add_mesh(2, node_.device.nvlink_bandwidth);
      case NvlinkWiring::listed: return add_listed();
    }
  }

  /// Bandwidth of that many NVLinks.
  [[nodiscard]] BytesPerSecond links(int count) const {
    return node_.device.nvlink_bandwidth / node_.device.nvlink_links * count;
  }

  void add_nvswitches() {
    const bool within_node = node_.nvlink.domain_nodes == 1;
    const std::size_t domain_gpus =
        static_cast<std::size_t>(node_.nvlink.domain_nodes) * node_.gpus;
    const BytesPerSecond rate = node_.nvlink.links_per_gpu > 0 ? links(node_.nvlink.links_per_gpu)
                                                               : node_.device.nvlink_bandwidth;
    for (std::size_t gpu = 0; gpu < graph_.gpus.size(); ++gpu) {
      if (gpu % domain_gpus == 0) {
        graph_.nvswitch_of_domain.push_back(
            add(VertexKind::nvswitch,
                fmt::format("{}{}.nvswitch", within_node ? "node" : "domain", gpu / domain_gpus)));
      }
      join(graph_.gpus[gpu], graph_.nvswitch_of_domain.back(), LinkKind::nvlink, rate,
           node_.nvlink.latency);
    }
  }

  /// Direct links between all GPUs of each block of `size`.
  void add_mesh(int size, BytesPerSecond bandwidth) {
    for (std::size_t b = 0; b < graph_.gpus.size(); ++b) {
      for (std::size_t a = b / size * size; a < b; ++a) {
        join(graph_.gpus[a], graph_.gpus[b], LinkKind::nvlink, bandwidth, node_.nvlink.latency);
      }
    }
  }

  void add_listed() {
    for (std::size_t first = 0; first < graph_.gpus.size(); first += node_.gpus) {
      for (const NvlinkPair& pair : node_.nvlink.listed) {
        join(graph_.gpus[first + pair.a], graph_.gpus[first + pair.b], LinkKind::nvlink,
             links(pair.links), node_.nvlink.latency);
      }
    }
    find_domains();
  }

  /// GPUs that listed links join, directly or through others, are one domain.
  void find_domains() {
    std::vector<int> label(static_cast<std::size_t>(node_.gpus));
    std::iota(label.begin(), label.end(), 0);
    for (const NvlinkPair& pair : node_.nvlink.listed) {
      const int low = std::min(label[pair.a], label[pair.b]);
      const int high = std::max(label[pair.a], label[pair.b]);
      std::replace(label.begin(), label.end(), high, low);
    }
    std::vector<int> distinct = label;
    std::sort(distinct.begin(), distinct.end());
    distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
    for (const int of_gpu : label) {
      graph_.domain_in_node.push_back(static_cast<int>(
          std::lower_bound(distinct.begin(), distinct.end(), of_gpu) - distinct.begin()));
    }
    graph_.domains_per_node = static_cast<int>(distinct.size());
  }

  /// Unit and number of the leaf that rail r of a node goes to.
  [[nodiscard]] std::pair<std::size_t, std::size_t> leaf_place(std::size_t nic) const {
    const std::size_t per_node = graph_.node.rails.size();
    const std::size_t ports = graph_.spec.fabric.leaf_ports;
    if (graph_.spec.fabric.wiring == FabricWiring::fat_tree) {
      return {nic / ports, 0};
    }
    return {nic / per_node / ports, nic % per_node};
  }

  /// What a port of a leaf carries: of a rail, that rail's rate; of a fat tree, the rails' average.
  [[nodiscard]] BytesPerSecond port_rate(std::size_t number) const {
    const std::vector<Rail>& rails = graph_.node.rails;
    if (graph_.spec.fabric.wiring == FabricWiring::rail_optimised) {
      return rails[number].rate;
    }
    const bool alike = std::all_of(rails.begin(), rails.end(), [&](const Rail& rail) {
      return rail.rate == rails.front().rate;
    });
    BytesPerSecond sum;
    for (const Rail& rail : rails) {
      sum += rail.rate;
    }
    return alike ? rails.front().rate : sum / static_cast<double>(rails.size());
  }

  void add_fabric() {
    const FabricSpec& fabric = graph_.spec.fabric;
    if (fabric.wiring == FabricWiring::none || graph_.nics.empty()) {
      return;
    }
    std::vector<std::vector<Vertex>> leaves;  // by unit, then number
    for (std::size_t nic = 0; nic < graph_.nics.size(); ++nic) {
      const auto [unit, number] = leaf_place(nic);
      leaves.resize(std::max(leaves.size(), unit + 1));
      if (leaves[unit].size() == number) {
        leaves[unit].push_back(
            add(VertexKind::leaf_switch, fmt::format("unit{}.leaf{}", unit, number)));
      }
      graph_.leaf_of_nic.push_back(leaves[unit][number]);
      join(graph_.nics[nic], leaves[unit][number], LinkKind::network,
           graph_.node.rails[nic % graph_.node.rails.size()].rate, fabric.nic_latency);
    }
    add_spine(leaves);
  }

  /// All uplinks of a leaf are one link to one logical spine, whatever the number of real spines:
  /// exact as long as the real fabric spreads traffic evenly over its uplinks.
  void add_spine(const std::vector<std::vector<Vertex>>& leaves) {
    const FabricSpec& fabric = graph_.spec.fabric;
    graph_.spine = add(VertexKind::spine_switch, "spine");
    for (const std::vector<Vertex>& unit : leaves) {
      for (std::size_t number = 0; number < unit.size(); ++number) {
        join(unit[number], graph_.spine, LinkKind::network,
             port_rate(number) * fabric.leaf_ports / fabric.oversubscription,
             fabric.uplink_latency);
      }
    }
  }

  /// The links out of each vertex, by counting.
  void sort_links() {
    graph_.first.assign(graph_.kinds.size() + 1, 0);
    const auto origin = [&](std::size_t link) { return graph_.ends[link ^ 1U]; };
    for (std::size_t link = 0; link < graph_.links.size(); ++link) {
      ++graph_.first[origin(link) + 1];
    }
    std::partial_sum(graph_.first.begin(), graph_.first.end(), graph_.first.begin());
    std::vector<std::uint32_t> next(graph_.first.begin(), graph_.first.end() - 1);
    graph_.outgoing.resize(graph_.links.size());
    for (std::size_t link = 0; link < graph_.links.size(); ++link) {
      graph_.outgoing[next[origin(link)]++] = LinkId(link);
    }
  }

  Cluster::Graph& graph_;
  const NodeSpec& node_;
};

/// True if every vertex is reached from the first; links go both ways.
bool is_connected(const Cluster::Graph& graph) {
  std::vector<bool> seen(graph.kinds.size());
  std::vector<Vertex> open{0};
  seen[0] = true;
  std::size_t reached = 1;
  while (!open.empty()) {
    const Vertex from = open.back();
    open.pop_back();
    for (const LinkId link : graph.out_of(from)) {
      const Vertex to = graph.ends[link.index];
      if (!seen[to]) {
        seen[to] = true;
        ++reached;
        open.push_back(to);
      }
    }
  }
  return reached == graph.kinds.size();
}

}  // namespace

Cluster build_cluster(ClusterSpec spec) {
  check(find_problems(spec).empty(), "a cluster is built from a specification without problems");
  check(spec.nodes >= 1 && spec.node.gpus >= 1, "a cluster has at least one GPU");
  auto graph = std::make_shared<Cluster::Graph>();
  graph->node = wire_node(spec.node);
  graph->spec = std::move(spec);
  Builder(*graph).build();
  check(is_connected(*graph), "every vertex of a cluster reaches every other");
  return Cluster(std::move(graph));
}

}  // namespace longhaul
