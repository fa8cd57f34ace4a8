// A cluster in words and as a picture: what `longhaul topology show` prints.
#pragma once

#include <string>

#include "sim/topology/cluster.h"

namespace longhaul {

/// "NVLink", "PCIe switch", "host bridge", "cross-socket", "host memory", "network", "self".
std::string format_path_class(PathClass path_class);

/// Several lines: the size, the tree of one node, the links of the cluster by kind, the fabric,
/// path classes and nominal bandwidths between the GPUs of node 0 as a matrix, examples of routes
/// between nodes, bisection bandwidth.
std::string describe_cluster(const Cluster& cluster);

/// The whole graph for Graphviz: one edge for the two directions of a link.
std::string cluster_to_dot(const Cluster& cluster);

}  // namespace longhaul
