#include "sim/topology/cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/push_relabel_max_flow.hpp>
#include <boost/graph/strong_components.hpp>
#include <limits>
#include <unordered_map>

#include "sim/topology/cluster_spec.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

struct VertexFacts {
  VertexKind kind = VertexKind::gpu;
  std::string name;
};

struct EdgeFacts {
  LinkId link;
};

using Wiring = boost::adjacency_list<boost::vecS, boost::vecS, boost::directedS, VertexFacts,
                                     EdgeFacts>;
using Vertex = Wiring::vertex_descriptor;
using Path = std::vector<Vertex>;

constexpr Vertex no_vertex = std::numeric_limits<Vertex>::max();

}  // namespace

/// The vertices of one kind are kept in order: gpus[node * gpus_per_node + i], and so on.
struct Cluster::Graph {
  ClusterSpec spec;
  Wiring wiring;
  std::vector<Link> links;
  std::vector<Vertex> gpus;
  std::vector<Vertex> nics;        ///< logical: rails(node) per node
  std::vector<Vertex> switches;    ///< PCIe
  std::vector<Vertex> cpus;        ///< ascending
  std::vector<Vertex> memories;    ///< one per CPU
  std::vector<Vertex> parent;      ///< of a vertex in its socket's tree; no_vertex for the root
  std::vector<Vertex> leaf_of_nic;
  Vertex spine = no_vertex;
  /// Routes asked for so far, by (from << 32 | to). Only looked up, never walked. References into
  /// it stay valid, since an unordered_map never moves its elements.
  mutable std::unordered_map<std::uint64_t, Route> routes;
  mutable std::unordered_map<std::uint64_t, Route> host_routes;

  [[nodiscard]] int node_of(std::size_t gpu) const {
    return static_cast<int>(gpu) / spec.node.gpus;
  }
  [[nodiscard]] int domain_of(std::size_t gpu) const;
  [[nodiscard]] std::size_t nic_of(std::size_t gpu) const;
  [[nodiscard]] Vertex memory_of(Vertex vertex) const;
  [[nodiscard]] Path climb(Vertex vertex) const;
  [[nodiscard]] Path tree_path(Vertex from, Vertex to) const;
  [[nodiscard]] Path peer_path(Vertex from, Vertex to) const;
  [[nodiscard]] Path nic_path(Vertex gpu, Vertex nic) const;
  [[nodiscard]] std::size_t sender_for(std::size_t from, std::size_t nic, std::size_t to) const;
  [[nodiscard]] Path network_path(std::size_t from, std::size_t to) const;
  [[nodiscard]] Path gpu_path(std::size_t from, std::size_t to) const;
  [[nodiscard]] Route route_of(const Path& path) const;
  [[nodiscard]] PathClass class_of(const Path& path) const;
};

// --- building ---------------------------------------------------------------------------------

namespace {

/// Adds vertices and links in a fixed order, so that ids depend on the specification alone.
class Builder {
 public:
  explicit Builder(Cluster::Graph& graph) : graph_(graph), node_(graph.spec.node) {}

  void build() {
    for (int node = 0; node < graph_.spec.nodes; ++node) {
      add_host(node);
      add_gpus(node);
      add_nics(node);
    }
    add_nvlink();
    add_fabric();
  }

 private:
  Vertex add(VertexKind kind, std::string name, Vertex parent = no_vertex) {
    graph_.parent.push_back(parent);
    return boost::add_vertex(VertexFacts{kind, std::move(name)}, graph_.wiring);
  }

  /// One link in each direction.
  void join(Vertex a, Vertex b, LinkKind kind, BytesPerSecond bandwidth, Seconds latency) {
    for (const auto& [from, to] : {std::pair(a, b), std::pair(b, a)}) {
      const LinkId id(graph_.links.size());
      graph_.links.push_back({id, kind, graph_.wiring[from].name, graph_.wiring[to].name,
                              bandwidth, latency});
      boost::add_edge(from, to, EdgeFacts{id}, graph_.wiring);
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
    for (int i = 0; i < node_.pcie.switches; ++i) {
      const Vertex cpu = graph_.cpus[first + i * host.sockets / node_.pcie.switches];
      const Vertex pcie =
          add(VertexKind::pcie_switch, fmt::format("node{}.pcie{}", node, i), cpu);
      join(pcie, cpu, LinkKind::pcie, node_.pcie.switch_uplink, node_.pcie.latency);
      graph_.switches.push_back(pcie);
    }
  }

  /// The switch or socket that GPU i of a node sits on.
  [[nodiscard]] Vertex seat(int node, int gpu) const {
    const bool switched = node_.pcie.switches > 0;
    const int per_node = switched ? node_.pcie.switches : node_.host.sockets;
    const std::vector<Vertex>& seats = switched ? graph_.switches : graph_.cpus;
    return seats[static_cast<std::size_t>(node) * per_node + gpu / gpus_per_switch(node_)];
  }

  [[nodiscard]] BytesPerSecond slot(BytesPerSecond stated) const {
    return stated > BytesPerSecond{} ? stated : node_.device.pcie_bandwidth;
  }

  void add_gpus(int node) {
    const bool coherent = node_.c2c.bandwidth > BytesPerSecond{};
    for (int i = 0; i < node_.gpus; ++i) {
      const Vertex above = seat(node, i);
      const Vertex gpu = add(VertexKind::gpu, fmt::format("node{}.gpu{}", node, i), above);
      if (coherent) {
        join(gpu, above, LinkKind::c2c, node_.c2c.bandwidth, node_.c2c.latency);
      } else {
        join(gpu, above, LinkKind::pcie, slot(node_.pcie.gpu_slot), node_.pcie.latency);
      }
      graph_.gpus.push_back(gpu);
    }
  }

  /// A NIC sits beside the first of its GPUs.
  void add_nics(int node) {
    for (int i = 0; i < rails(node_); ++i) {
      const Vertex above = seat(node, i * (node_.gpus / rails(node_)));
      const Vertex nic = add(VertexKind::nic, fmt::format("node{}.nic{}", node, i), above);
      const BytesPerSecond slots = slot(node_.pcie.nic_slot) * (node_.nics.count / rails(node_));
      join(nic, above, LinkKind::pcie, slots, node_.pcie.latency);
      graph_.nics.push_back(nic);
    }
  }

  void add_nvlink() {
    switch (node_.nvlink.wiring) {
      case NvlinkWiring::none: return;
      case NvlinkWiring::switched: return add_nvswitches();
      case NvlinkWiring::mesh:
        return add_mesh(node_.gpus, per_link() * node_.nvlink.links_per_pair);
      case NvlinkWiring::pairs: return add_mesh(2, node_.device.nvlink_bandwidth);
    }
  }

  [[nodiscard]] BytesPerSecond per_link() const {
    return node_.device.nvlink_bandwidth / node_.device.nvlink_links;
  }

  void add_nvswitches() {
    const bool within_node = node_.nvlink.domain_nodes == 1;
    const std::size_t domain_gpus =
        static_cast<std::size_t>(node_.nvlink.domain_nodes) * node_.gpus;
    Vertex nvswitch = no_vertex;
    for (std::size_t gpu = 0; gpu < graph_.gpus.size(); ++gpu) {
      if (gpu % domain_gpus == 0) {
        nvswitch = add(VertexKind::nvswitch,
                       fmt::format("{}{}.nvswitch", within_node ? "node" : "domain",
                                   gpu / domain_gpus));
      }
      join(graph_.gpus[gpu], nvswitch, LinkKind::nvlink, node_.device.nvlink_bandwidth,
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

  /// Unit and number of the leaf that rail r of a node goes to.
  [[nodiscard]] std::pair<std::size_t, std::size_t> leaf_place(std::size_t nic) const {
    const std::size_t per_node = rails(node_);
    const std::size_t ports = graph_.spec.fabric.leaf_ports;
    if (graph_.spec.fabric.wiring == FabricWiring::fat_tree) {
      return {nic / ports, 0};
    }
    return {nic / per_node / ports, nic % per_node};
  }

  void add_fabric() {
    const FabricSpec& fabric = graph_.spec.fabric;
    if (fabric.wiring == FabricWiring::none || graph_.nics.empty()) {
      return;
    }
    const BytesPerSecond rate = rail_bandwidth(node_);
    std::vector<std::vector<Vertex>> leaves;  // by unit, then number
    for (std::size_t nic = 0; nic < graph_.nics.size(); ++nic) {
      const auto [unit, number] = leaf_place(nic);
      leaves.resize(std::max(leaves.size(), unit + 1));
      if (leaves[unit].size() == number) {
        leaves[unit].push_back(
            add(VertexKind::leaf_switch, fmt::format("unit{}.leaf{}", unit, number)));
      }
      graph_.leaf_of_nic.push_back(leaves[unit][number]);
      join(graph_.nics[nic], leaves[unit][number], LinkKind::network, rate, fabric.nic_latency);
    }
    add_spine(leaves, rate * fabric.leaf_ports / fabric.oversubscription);
  }

  /// All uplinks of a leaf are one link to one logical spine, whatever the number of real spines:
  /// exact as long as the real fabric spreads traffic evenly over its uplinks.
  void add_spine(const std::vector<std::vector<Vertex>>& leaves, BytesPerSecond uplinks) {
    graph_.spine = add(VertexKind::spine_switch, "spine");
    for (const std::vector<Vertex>& unit : leaves) {
      for (const Vertex leaf : unit) {
        join(leaf, graph_.spine, LinkKind::network, uplinks, graph_.spec.fabric.uplink_latency);
      }
    }
  }

  Cluster::Graph& graph_;
  const NodeSpec& node_;
};

bool is_connected(const Wiring& wiring) {
  std::vector<std::size_t> component(boost::num_vertices(wiring));
  return boost::strong_components(
             wiring, boost::make_iterator_property_map(
                         component.begin(), boost::get(boost::vertex_index, wiring))) == 1;
}

}  // namespace

Cluster build_cluster(ClusterSpec spec) {
  check(find_problems(spec).empty(), "a cluster is built from a specification without problems");
  check(spec.nodes >= 1 && spec.node.gpus >= 1, "a cluster has at least one GPU");
  auto graph = std::make_shared<Cluster::Graph>();
  graph->spec = std::move(spec);
  Builder(*graph).build();
  check(is_connected(graph->wiring), "every vertex of a cluster reaches every other");
  return Cluster(std::move(graph));
}

// --- routes -----------------------------------------------------------------------------------

int Cluster::Graph::domain_of(std::size_t gpu) const {
  switch (spec.node.nvlink.wiring) {
    case NvlinkWiring::none: break;
    case NvlinkWiring::switched: return node_of(gpu) / spec.node.nvlink.domain_nodes;
    case NvlinkWiring::mesh: return node_of(gpu);
    case NvlinkWiring::pairs: return static_cast<int>(gpu) / 2;
  }
  return static_cast<int>(gpu);
}

std::size_t Cluster::Graph::nic_of(std::size_t gpu) const {
  return gpu / static_cast<std::size_t>(spec.node.gpus / rails(spec.node));
}

Path Cluster::Graph::climb(Vertex vertex) const {
  Path path;
  for (Vertex at = vertex; at != no_vertex; at = parent[at]) {
    path.push_back(at);
  }
  return path;
}

/// The memory of the socket that a vertex of a node hangs on.
Vertex Cluster::Graph::memory_of(Vertex vertex) const {
  const auto cpu = std::lower_bound(cpus.begin(), cpus.end(), climb(vertex).back());
  return memories[static_cast<std::size_t>(cpu - cpus.begin())];
}

/// Within a node, over PCIe, C2C and the bus between sockets: up to the lowest common ancestor, or
/// to the socket and across; then down.
Path Cluster::Graph::tree_path(Vertex from, Vertex to) const {
  Path path = climb(from);
  Path down = climb(to);
  Vertex meeting = no_vertex;
  while (!path.empty() && !down.empty() && path.back() == down.back()) {
    meeting = path.back();
    path.pop_back();
    down.pop_back();
  }
  if (meeting != no_vertex) {
    path.push_back(meeting);
  }
  path.insert(path.end(), down.rbegin(), down.rend());
  return path;
}

namespace {

/// Goes on from where `path` ends.
void extend(Path& path, const Path& more) {
  check(path.back() == more.front(), "a path goes on where it ends");
  path.insert(path.end(), more.begin() + 1, more.end());
}

Path reversed(Path path) {
  std::reverse(path.begin(), path.end());
  return path;
}

}  // namespace

/// Between two GPUs of a node without NVLink between them: PCIe where peer access is allowed, else
/// through the memory of the sender's socket.
Path Cluster::Graph::peer_path(Vertex from, Vertex to) const {
  const PeerAccess access = spec.node.pcie.peer_access;
  Path direct = tree_path(from, to);
  const bool through_cpu = std::any_of(direct.begin(), direct.end(), [&](Vertex vertex) {
    return wiring[vertex].kind == VertexKind::cpu;
  });
  if (access == PeerAccess::everywhere || (access == PeerAccess::same_switch && !through_cpu)) {
    return direct;
  }
  const Vertex memory = memory_of(from);
  Path staged = tree_path(from, memory);
  extend(staged, tree_path(memory, to));
  return staged;
}

/// From a GPU to a NIC of its node. GPUDirect RDMA needs both under one PCIe switch, or C2C (NCCL:
/// at most PXB or P2C); else the data goes through the memory of the GPU's socket.
Path Cluster::Graph::nic_path(Vertex gpu, Vertex nic) const {
  const bool under_switch =
      parent[gpu] == parent[nic] && wiring[parent[gpu]].kind == VertexKind::pcie_switch;
  if (under_switch || spec.node.c2c.bandwidth > BytesPerSecond{}) {
    return tree_path(gpu, nic);
  }
  const Vertex memory = memory_of(gpu);
  Path staged = tree_path(gpu, memory);
  extend(staged, tree_path(memory, nic));
  return staged;
}

/// The GPU that hands data of `from` to a NIC of its node: itself beside the NIC; else (PXN) a GPU
/// of its node beside the NIC that NVLink reaches, the one that sits where `to` sits if it can be;
/// else itself.
std::size_t Cluster::Graph::sender_for(std::size_t from, std::size_t nic, std::size_t to) const {
  if (parent[gpus[from]] == parent[nics[nic]]) {
    return from;
  }
  const std::size_t per_node = spec.node.gpus;
  const std::size_t first = from / per_node * per_node;
  std::vector<std::size_t> candidates;
  for (std::size_t gpu = first; gpu < first + per_node; ++gpu) {
    if (parent[gpus[gpu]] == parent[nics[nic]] && domain_of(gpu) == domain_of(from)) {
      candidates.push_back(gpu);
    }
  }
  return candidates.empty() ? from : candidates[to % per_node % candidates.size()];
}

/// Between nodes. With NVLink, the sender takes the NIC on the receiver's rail, so that the fabric
/// is crossed at one leaf; without, its own. The receiver's NIC is the receiver's own.
Path Cluster::Graph::network_path(std::size_t from, std::size_t to) const {
  const std::size_t per_node = rails(spec.node);
  const std::size_t in = nic_of(to);
  const std::size_t same_rail = node_of(from) * per_node + in % per_node;
  std::size_t out = same_rail;
  std::size_t sender = sender_for(from, out, to);
  if (parent[gpus[sender]] != parent[nics[out]]) {
    out = nic_of(from);
    sender = sender_for(from, out, to);
  }
  Path path = sender == from ? Path{gpus[from]} : gpu_path(from, sender);
  extend(path, nic_path(gpus[sender], nics[out]));
  path.push_back(leaf_of_nic[out]);
  if (leaf_of_nic[in] != leaf_of_nic[out]) {
    path.push_back(spine);
    path.push_back(leaf_of_nic[in]);
  }
  path.push_back(nics[in]);
  extend(path, reversed(nic_path(gpus[to], nics[in])));
  return path;
}

Path Cluster::Graph::gpu_path(std::size_t from, std::size_t to) const {
  if (domain_of(from) == domain_of(to)) {
    if (spec.node.nvlink.wiring != NvlinkWiring::switched) {
      return {gpus[from], gpus[to]};
    }
    // The NVSwitch is the one neighbour of a GPU that is neither above it nor a GPU.
    const auto [first, last] = boost::out_edges(gpus[from], wiring);
    const auto link = std::find_if(first, last, [&](const auto& edge) {
      return wiring[boost::target(edge, wiring)].kind == VertexKind::nvswitch;
    });
    return {gpus[from], boost::target(*link, wiring), gpus[to]};
  }
  return node_of(from) == node_of(to) ? peer_path(gpus[from], gpus[to]) : network_path(from, to);
}

PathClass Cluster::Graph::class_of(const Path& path) const {
  const auto count = [&](VertexKind kind) {
    return std::count_if(path.begin(), path.end(),
                         [&](Vertex vertex) { return wiring[vertex].kind == kind; });
  };
  if (path.size() == 1) return PathClass::self;
  if (count(VertexKind::leaf_switch) > 0) return PathClass::network;
  if (count(VertexKind::host_memory) > 0) return PathClass::host_staged;
  if (count(VertexKind::cpu) > 1) return PathClass::cross_socket;
  if (count(VertexKind::cpu) > 0) return PathClass::pcie_host;
  return count(VertexKind::pcie_switch) > 0 ? PathClass::pcie_switch : PathClass::nvlink;
}

Route Cluster::Graph::route_of(const Path& path) const {
  Route route;
  for (std::size_t i = 1; i < path.size(); ++i) {
    const auto [edge, found] = boost::edge(path[i - 1], path[i], wiring);
    check(found, "a route follows links");
    route.links.push_back(wiring[edge].link);
    route.latency += links[wiring[edge].link.index].latency;
    const VertexKind kind = wiring[path[i]].kind;
    route.network_hops += kind == VertexKind::leaf_switch || kind == VertexKind::spine_switch;
  }
  route.path_class = class_of(path);
  return route;
}

// --- the public face --------------------------------------------------------------------------

Cluster::Cluster(std::shared_ptr<const Graph> graph) : graph_(std::move(graph)) {}

const std::string& Cluster::name() const { return graph_->spec.name; }
int Cluster::gpu_count() const { return static_cast<int>(graph_->gpus.size()); }
int Cluster::node_count() const { return graph_->spec.nodes; }
int Cluster::gpus_per_node() const { return graph_->spec.node.gpus; }
const Device& Cluster::device() const { return graph_->spec.node.device; }
int Cluster::nics_per_node() const { return graph_->spec.node.nics.count; }
const std::string& Cluster::transport() const { return graph_->spec.transport; }
const ClusterSpec& Cluster::spec() const { return graph_->spec; }
std::span<const Link> Cluster::links() const { return graph_->links; }
const std::vector<std::string>& Cluster::origins() const { return graph_->spec.origins; }

BytesPerSecond Cluster::nic_bandwidth() const {
  return nics_per_node() == 0 ? BytesPerSecond{} : graph_->spec.node.nics.bandwidth;
}

int Cluster::nvlink_domain_size() const {
  const NodeSpec& node = graph_->spec.node;
  switch (node.nvlink.wiring) {
    case NvlinkWiring::none: break;
    case NvlinkWiring::switched:
      return std::min(node.nvlink.domain_nodes, node_count()) * node.gpus;
    case NvlinkWiring::mesh: return node.gpus;
    case NvlinkWiring::pairs: return 2;
  }
  return 1;
}

int Cluster::node_of(GpuId gpu) const { return graph_->node_of(gpu.index); }
int Cluster::nvlink_domain_of(GpuId gpu) const { return graph_->domain_of(gpu.index); }
int Cluster::local_index(GpuId gpu) const {
  return static_cast<int>(gpu.index) % gpus_per_node();
}

const Route& Cluster::route(GpuId from, GpuId to) const {
  check(from.index < graph_->gpus.size() && to.index < graph_->gpus.size(),
        "routes are between GPUs of the cluster");
  const auto [entry, fresh] =
      graph_->routes.try_emplace(std::uint64_t{from.index} << 32 | to.index);
  if (fresh) {
    const Path path = from == to ? Path{graph_->gpus[from.index]}
                                 : graph_->gpu_path(from.index, to.index);
    entry->second = graph_->route_of(path);
  }
  return entry->second;
}

const Route& Cluster::host_route(GpuId gpu, bool to_host) const {
  check(gpu.index < graph_->gpus.size(), "a host route is of a GPU of the cluster");
  const auto [entry, fresh] =
      graph_->host_routes.try_emplace(std::uint64_t{gpu.index} << 1 | (to_host ? 1 : 0));
  if (fresh) {
    const Vertex vertex = graph_->gpus[gpu.index];
    const Path out = graph_->tree_path(vertex, graph_->memory_of(vertex));
    entry->second = graph_->route_of(to_host ? out : reversed(out));
    entry->second.path_class = PathClass::pcie_host;
  }
  return entry->second;
}

BytesPerSecond Cluster::bandwidth(const Route& route) const {
  auto slowest = BytesPerSecond::of(std::numeric_limits<double>::infinity());
  for (const LinkId link : route.links) {
    slowest = std::min(slowest, graph_->links[link.index].bandwidth);
  }
  return slowest;
}

// --- bisection --------------------------------------------------------------------------------

namespace {

using FlowTraits = boost::adjacency_list_traits<boost::vecS, boost::vecS, boost::directedS>;
using FlowGraph = boost::adjacency_list<
    boost::vecS, boost::vecS, boost::directedS, boost::no_property,
    boost::property<boost::edge_capacity_t, std::int64_t,
                    boost::property<boost::edge_residual_capacity_t, std::int64_t,
                                    boost::property<boost::edge_reverse_t,
                                                    FlowTraits::edge_descriptor>>>>;

/// Capacities are whole bytes per second, so that the flow is exact.
void add_capacity(FlowGraph& flow, Vertex from, Vertex to, std::int64_t capacity) {
  const auto forth = boost::add_edge(from, to, flow).first;
  const auto back = boost::add_edge(to, from, flow).first;
  boost::put(boost::edge_capacity, flow, forth, capacity);
  boost::put(boost::edge_capacity, flow, back, 0);
  boost::put(boost::edge_reverse, flow, forth, back);
  boost::put(boost::edge_reverse, flow, back, forth);
}

}  // namespace

std::optional<BytesPerSecond> Cluster::bisection_bandwidth() const {
  const std::size_t count = graph_->gpus.size();
  if (count < 2 || count > bisection_limit) {
    return std::nullopt;
  }
  std::vector<bool> used(graph_->links.size());
  for (std::size_t from = 0; from < count / 2; ++from) {
    for (std::size_t to = count / 2; to < count; ++to) {
      for (const LinkId link : graph_->route_of(graph_->gpu_path(from, to)).links) {
        used[link.index] = true;
      }
    }
  }
  const Wiring& wiring = graph_->wiring;
  FlowGraph flow(boost::num_vertices(wiring) + 2);
  const Vertex source = boost::num_vertices(wiring);
  for (const auto& edge : boost::make_iterator_range(boost::edges(wiring))) {
    if (used[wiring[edge].link.index]) {
      const double rate = graph_->links[wiring[edge].link.index].bandwidth.value();
      add_capacity(flow, boost::source(edge, wiring), boost::target(edge, wiring),
                   std::llround(rate));
    }
  }
  for (std::size_t gpu = 0; gpu < count; ++gpu) {
    const bool sends = gpu < count / 2;
    const std::int64_t unlimited = std::int64_t{1} << 52;
    add_capacity(flow, sends ? source : graph_->gpus[gpu], sends ? graph_->gpus[gpu] : source + 1,
                 unlimited);
  }
  const std::int64_t most = boost::push_relabel_max_flow(flow, source, source + 1);
  return BytesPerSecond::of(static_cast<double>(most));
}

}  // namespace longhaul
