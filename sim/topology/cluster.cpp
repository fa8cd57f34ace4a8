#include "sim/topology/cluster.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sim/topology/cluster_graph.h"
#include "sim/units/check.h"

namespace longhaul {

// --- routes -----------------------------------------------------------------------------------

int Cluster::Graph::domain_of(std::size_t gpu) const {
  switch (spec.node.nvlink.wiring) {
    case NvlinkWiring::none: break;
    case NvlinkWiring::switched: return node_of(gpu) / spec.node.nvlink.domain_nodes;
    case NvlinkWiring::mesh: return node_of(gpu);
    case NvlinkWiring::pairs: return static_cast<int>(gpu) / 2;
    case NvlinkWiring::listed:
      return node_of(gpu) * domains_per_node + domain_in_node[gpu % spec.node.gpus];
  }
  return static_cast<int>(gpu);
}

std::size_t Cluster::Graph::nic_of(std::size_t gpu) const {
  const std::size_t per_node = spec.node.gpus;
  return gpu / per_node * node.rails.size() + node.rail_of_gpu[gpu % per_node];
}

/// Looked for at the end that has fewer links: a spine has thousands.
std::optional<LinkId> Cluster::Graph::link_between(Vertex from, Vertex to) const {
  const bool forth = out_of(from).size() <= out_of(to).size();
  for (const LinkId link : out_of(forth ? from : to)) {
    if (ends[link.index] == (forth ? to : from)) {
      return forth ? link : LinkId(link.index ^ 1U);
    }
  }
  return std::nullopt;
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

bool Cluster::Graph::through_cpu(const Path& path) const {
  return std::any_of(path.begin(), path.end(),
                     [&](Vertex vertex) { return kinds[vertex] == VertexKind::cpu; });
}

/// Between two GPUs of a node without NVLink between them: PCIe where peer access is allowed, else
/// through the memory of the sender's socket.
Path Cluster::Graph::peer_path(Vertex from, Vertex to) const {
  const PeerAccess access = spec.node.pcie.peer_access;
  Path direct = tree_path(from, to);
  if (access == PeerAccess::everywhere ||
      (access == PeerAccess::same_switch && !through_cpu(direct))) {
    return direct;
  }
  const Vertex memory = memory_of(from);
  Path staged = tree_path(from, memory);
  extend(staged, tree_path(memory, to));
  return staged;
}

/// Under one PCIe switch; or both on the same socket or switch.
bool Cluster::Graph::beside(std::size_t gpu, std::size_t nic) const {
  return parent[gpus[gpu]] == parent[nics[nic]] || !through_cpu(tree_path(gpus[gpu], nics[nic]));
}

/// From a GPU to a NIC of its node. GPUDirect RDMA needs both under one PCIe switch, or C2C (NCCL:
/// at most PXB or P2C); else the data goes through the memory of the GPU's socket.
Path Cluster::Graph::nic_path(Vertex gpu, Vertex nic) const {
  Path direct = tree_path(gpu, nic);
  const bool coherent = spec.node.c2c.bandwidth > BytesPerSecond{};
  if (spec.node.nics.gpudirect && (coherent || !through_cpu(direct))) {
    return direct;
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
  if (beside(from, nic)) {
    return from;
  }
  const std::size_t per_node = spec.node.gpus;
  const std::size_t first_gpu = from / per_node * per_node;
  std::vector<std::size_t> candidates;
  for (std::size_t gpu = first_gpu; gpu < first_gpu + per_node; ++gpu) {
    if (beside(gpu, nic) && domain_of(gpu) == domain_of(from)) {
      candidates.push_back(gpu);
    }
  }
  return candidates.empty() ? from : candidates[to % per_node % candidates.size()];
}

/// Between nodes. With NVLink, the sender takes the NIC on the receiver's rail, so that the fabric
/// is crossed at one leaf; without, its own. The receiver's NIC is the receiver's own.
Path Cluster::Graph::network_path(std::size_t from, std::size_t to) const {
  const std::size_t per_node = node.rails.size();
  const std::size_t in = nic_of(to);
  const std::size_t same_rail = node_of(from) * per_node + in % per_node;
  std::size_t out = same_rail;
  std::size_t sender = sender_for(from, out, to);
  if (!beside(sender, out)) {
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

/// Over listed NVLinks: direct, or through the one GPU that makes the widest path (the lowest
/// number among equals; NCCL: NVB). GPUs further apart use PCIe.
Path Cluster::Graph::listed_path(std::size_t from, std::size_t to) const {
  if (link_between(gpus[from], gpus[to])) {
    return {gpus[from], gpus[to]};
  }
  const std::size_t per_node = spec.node.gpus;
  const std::size_t first_gpu = from / per_node * per_node;
  Path best;
  BytesPerSecond widest;
  for (std::size_t via = first_gpu; via < first_gpu + per_node; ++via) {
    const auto in = via == from || via == to ? std::nullopt : link_between(gpus[from], gpus[via]);
    const auto out = in ? link_between(gpus[via], gpus[to]) : std::nullopt;
    const BytesPerSecond width =
        out ? std::min(links[in->index].bandwidth, links[out->index].bandwidth) : BytesPerSecond{};
    if (width > widest) {
      widest = width;
      best = {gpus[from], gpus[via], gpus[to]};
    }
  }
  return best.empty() ? peer_path(gpus[from], gpus[to]) : best;
}

Path Cluster::Graph::gpu_path(std::size_t from, std::size_t to) const {
  if (domain_of(from) == domain_of(to)) {
    switch (spec.node.nvlink.wiring) {
      case NvlinkWiring::switched:
        return {gpus[from], nvswitch_of_domain[static_cast<std::size_t>(domain_of(from))],
                gpus[to]};
      case NvlinkWiring::listed: return listed_path(from, to);
      default: return {gpus[from], gpus[to]};
    }
  }
  return node_of(from) == node_of(to) ? peer_path(gpus[from], gpus[to]) : network_path(from, to);
}

PathClass Cluster::Graph::class_of(const Path& path) const {
  const auto count = [&](VertexKind kind) {
    return std::count_if(path.begin(), path.end(),
                         [&](Vertex vertex) { return kinds[vertex] == kind; });
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
    const std::optional<LinkId> link = link_between(path[i - 1], path[i]);
    check(link.has_value(), "a route follows links");
    route.links.push_back(*link);
    route.latency += links[link->index].latency;
    const VertexKind kind = kinds[path[i]];
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

namespace {

int smallest_domain(const Cluster::Graph& graph) {
  std::vector<int> size(static_cast<std::size_t>(graph.domains_per_node));
  for (const int domain : graph.domain_in_node) {
    ++size[static_cast<std::size_t>(domain)];
  }
  return *std::min_element(size.begin(), size.end());
}

}  // namespace

int Cluster::nvlink_domain_size() const {
  const NodeSpec& node = graph_->spec.node;
  switch (node.nvlink.wiring) {
    case NvlinkWiring::none: break;
    case NvlinkWiring::switched:
      return std::min(node.nvlink.domain_nodes, node_count()) * node.gpus;
    case NvlinkWiring::mesh: return node.gpus;
    case NvlinkWiring::pairs: return 2;
    case NvlinkWiring::listed: return smallest_domain(*graph_);
  }
  return 1;
}

int Cluster::node_of(GpuId gpu) const { return graph_->node_of(gpu.index); }
int Cluster::nvlink_domain_of(GpuId gpu) const { return graph_->domain_of(gpu.index); }
int Cluster::local_index(GpuId gpu) const { return static_cast<int>(gpu.index) % gpus_per_node(); }

const Route& Cluster::route(GpuId from, GpuId to) const {
  check(from.index < graph_->gpus.size() && to.index < graph_->gpus.size(),
        "routes are between GPUs of the cluster");
  return graph_->routes.get(std::uint64_t{from.index} << 32 | to.index, [&] {
    return graph_->route_of(from == to ? Path{graph_->gpus[from.index]}
                                       : graph_->gpu_path(from.index, to.index));
  });
}

const Route& Cluster::host_route(GpuId gpu, bool to_host) const {
  check(gpu.index < graph_->gpus.size(), "a host route is of a GPU of the cluster");
  return graph_->host_routes.get(std::uint64_t{gpu.index} << 1 | (to_host ? 1 : 0), [&] {
    const Vertex vertex = graph_->gpus[gpu.index];
    const Path out = graph_->tree_path(vertex, graph_->memory_of(vertex));
    Route route = graph_->route_of(to_host ? out : reversed(out));
    route.path_class = PathClass::pcie_host;
    return route;
  });
}

std::string Cluster::path_name(GpuId from, GpuId to) const {
  const NodeSpec& node = graph_->spec.node;
  const Route& way = route(from, to);
  switch (way.path_class) {
    case PathClass::self: return "X";
    case PathClass::network: return "NET";
    case PathClass::nvlink: {
      const bool through_gpu =
          way.links.size() == 2 && node.nvlink.wiring != NvlinkWiring::switched;
      const double each = node.device.nvlink_bandwidth.value() / node.device.nvlink_links;
      return through_gpu ? "NVB"
                         : "NV" + std::to_string(std::lround(bandwidth(way).value() / each));
    }
    default: break;
  }
  if (node.c2c.bandwidth > BytesPerSecond{} && node_of(from) == node_of(to)) {
    return "C2C";
  }
  const auto seat = [&](GpuId gpu) -> const Seat& {
    return graph_->node.gpus[static_cast<std::size_t>(local_index(gpu))].seat;
  };
  return pcie_relation(graph_->node.switches, seat(from), seat(to));
}

bool Cluster::has_peer_access(GpuId from, GpuId to) const {
  const PathClass way = route(from, to).path_class;
  return way != PathClass::network && way != PathClass::host_staged;
}

int Cluster::gpus_per_switch() const { return longhaul::gpus_per_switch(graph_->spec.node); }

BytesPerSecond Cluster::bandwidth(const Route& route) const {
  auto slowest = BytesPerSecond::of(std::numeric_limits<double>::infinity());
  for (const LinkId link : route.links) {
    slowest = std::min(slowest, graph_->links[link.index].bandwidth);
  }
  return slowest;
}

}  // namespace longhaul
