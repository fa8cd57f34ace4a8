// A cluster in words, as JSON and as a picture: what `longhaul topology show` prints. Every number
// is defined in docs/models/topology.md.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sim/input/json.h"
#include "sim/topology/cluster.h"

namespace longhaul {

/// "NVLink", "PCIe switch", "host bridge", "cross-socket", "host memory", "network", "self".
std::string format_path_class(PathClass path_class);

/// All links of one kind; a link and its way back count as two.
struct LinkSummary {
  std::string kind;
  std::size_t count = 0;
  BytesPerSecond slowest;
  BytesPerSecond fastest;
  BytesPerSecond total;
};
std::vector<LinkSummary> summarize_links(const Cluster& cluster);

/// What the first half of some GPUs can send to the second at once. Absent where there is only one
/// GPU, one node, or too many GPUs for a maximum flow.
struct Bisections {
  std::optional<BytesPerSecond> node;     ///< within node 0
  std::optional<BytesPerSecond> domain;   ///< within the first NVLink domain, over NVLink
  std::optional<BytesPerSecond> fabric;   ///< NICs and switches alone, halves of the nodes
  std::optional<BytesPerSecond> cluster;  ///< all of it
};
Bisections find_bisections(const Cluster& cluster);

/// Several lines: the size, the tree of one node, the links of the cluster by kind, the fabric,
/// path names and nominal bandwidths between GPUs as a matrix, examples of routes between nodes,
/// bisection bandwidths.
std::string describe_cluster(const Cluster& cluster);

/// The path between two GPUs: its name and class, every link, the slowest one, the latency.
std::string describe_path(const Cluster& cluster, GpuId from, GpuId to);

/// The same facts as values; with the matrix of node 0, and every link of clusters of at most
/// `json_link_limit` links.
JsonValue cluster_json(const Cluster& cluster);
inline constexpr std::size_t json_link_limit = 20000;
JsonValue path_json(const Cluster& cluster, GpuId from, GpuId to);

/// The whole graph for Graphviz: one edge for the two directions of a link.
std::string cluster_to_dot(const Cluster& cluster);
/// Links (both directions counted) beyond which a picture is of no use: Graphviz takes minutes.
inline constexpr std::size_t dot_link_limit = 10000;

}  // namespace longhaul
