// The graph behind Cluster. Private to sim/topology.
#pragma once

#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sim/topology/cluster.h"
#include "sim/topology/cluster_spec.h"
#include "sim/topology/node_wiring.h"
#include "sim/topology/route_cache.h"

namespace longhaul {

using Vertex = std::uint32_t;
using Path = std::vector<Vertex>;

inline constexpr Vertex no_vertex = std::numeric_limits<Vertex>::max();

/// Arrays by vertex and by link, and the links out of each vertex. Plain arrays instead of
/// Boost.Graph: of a million GPUs they take a third of the memory. The vertices of one kind are
/// kept in order: gpus[node * gpus_per_node + i], and so on.
struct Cluster::Graph {
  ClusterSpec spec;
  NodeWiring node;
  std::vector<VertexKind> kinds;   ///< by vertex
  std::vector<Vertex> parent;      ///< by vertex: above it in its socket's tree; none for a root
  std::vector<std::string> names;  ///< by vertex
  std::vector<Link> links;         ///< a link and its way back have neighbouring ids
  std::vector<Vertex> ends;        ///< by link: where it goes
  std::vector<std::uint32_t>
      first;                     ///< by vertex: its first entry of `outgoing`; one more at the end
  std::vector<LinkId> outgoing;  ///< links by the vertex they leave, in order of id
  std::vector<Vertex> gpus;
  std::vector<Vertex> nics;      ///< logical: rails(node) per node
  std::vector<Vertex> switches;  ///< PCIe
  std::vector<Vertex> cpus;      ///< ascending
  std::vector<Vertex> memories;  ///< one per CPU
  std::vector<Vertex> nvswitch_of_domain;
  std::vector<Vertex> leaf_of_nic;
  Vertex spine = no_vertex;
  /// Of a GPU within its node, with listed NVLinks: which of the node's domains it belongs to.
  std::vector<int> domain_in_node;
  int domains_per_node = 0;
  mutable RouteCache routes;       ///< by (from << 32 | to)
  mutable RouteCache host_routes;  ///< by (gpu << 1 | to_host)

  [[nodiscard]] std::span<const LinkId> out_of(Vertex vertex) const {
    return std::span(outgoing).subspan(first[vertex], first[vertex + 1] - first[vertex]);
  }
  /// The link between two neighbours, if they are.
  [[nodiscard]] std::optional<LinkId> link_between(Vertex from, Vertex to) const;
  [[nodiscard]] int node_of(std::size_t gpu) const {
    return static_cast<int>(gpu) / spec.node.gpus;
  }
  [[nodiscard]] int domain_of(std::size_t gpu) const;
  [[nodiscard]] std::size_t nic_of(std::size_t gpu) const;
  [[nodiscard]] Vertex memory_of(Vertex vertex) const;
  [[nodiscard]] Path climb(Vertex vertex) const;
  [[nodiscard]] Path tree_path(Vertex from, Vertex to) const;
  [[nodiscard]] bool through_cpu(const Path& path) const;
  [[nodiscard]] Path peer_path(Vertex from, Vertex to) const;
  [[nodiscard]] bool beside(std::size_t gpu, std::size_t nic) const;
  [[nodiscard]] Path nic_path(Vertex gpu, Vertex nic) const;
  [[nodiscard]] std::size_t sender_for(std::size_t from, std::size_t nic, std::size_t to) const;
  [[nodiscard]] Path network_path(std::size_t from, std::size_t to) const;
  [[nodiscard]] Path listed_path(std::size_t from, std::size_t to) const;
  [[nodiscard]] Path gpu_path(std::size_t from, std::size_t to) const;
  [[nodiscard]] Route route_of(const Path& path) const;
  [[nodiscard]] PathClass class_of(const Path& path) const;
};

}  // namespace longhaul
