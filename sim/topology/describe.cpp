#include "sim/topology/describe.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <set>

#include "sim/topology/cluster_spec.h"
#include "sim/units/format.h"

namespace longhaul {

std::string format_path_class(PathClass path_class) {
  switch (path_class) {
    case PathClass::self: return "self";
    case PathClass::nvlink: return "NVLink";
    case PathClass::pcie_switch: return "PCIe switch";
    case PathClass::pcie_host: return "host bridge";
    case PathClass::cross_socket: return "cross-socket";
    case PathClass::host_staged: return "host memory";
    case PathClass::network: break;
  }
  return "network";
}

namespace {

const char* word_of(LinkKind kind) {
  switch (kind) {
    case LinkKind::nvlink: return "NVLink";
    case LinkKind::pcie: return "PCIe";
    case LinkKind::cpu_bus: return "CPU bus";
    case LinkKind::network: return "network";
    case LinkKind::c2c: return "NVLink-C2C";
    case LinkKind::host_memory: break;
  }
  return "host memory";
}

using Text = fmt::memory_buffer;

template <class... Args>
void print(Text& out, fmt::format_string<Args...> format, Args&&... args) {
  fmt::format_to(std::back_inserter(out), format, std::forward<Args>(args)...);
}

void describe_size(Text& out, const Cluster& cluster) {
  print(out, "{}: {} GPU{}, {}\n", cluster.name(), cluster.gpu_count(),
        cluster.gpu_count() == 1 ? "" : "s", cluster.device().title);
  print(out, "  {} x {} ({})\n", cluster.node_count(), cluster.spec().node.name,
        cluster.spec().node.title);
  print(out, "  GPUs in an NVLink domain: {}; transport profile: {}\n\n",
        cluster.nvlink_domain_size(), cluster.transport());
}

/// Prints the links out of `from` within node 0, as a tree that goes down from the sockets.
class NodeTree {
 public:
  NodeTree(Text& out, const Cluster& cluster) : out_(out), links_(cluster.links()) {}

  void describe(const std::string& vertex, int depth) {
    done_.insert(vertex);
    for (const Link& link : links_) {
      const bool within = link.to.starts_with("node0.") && link.kind != LinkKind::nvlink &&
                          link.kind != LinkKind::cpu_bus;
      if (link.from != vertex || !within || done_.contains(link.to)) {
        continue;
      }
      print(out_, "{:{}}{}  {} {}{}\n", "", 2 * depth, link.to.substr(6), word_of(link.kind),
            format_rate(link.bandwidth), nvlinks_of(link.to));
      describe(link.to, depth + 1);
    }
  }

 private:
  [[nodiscard]] std::string nvlinks_of(const std::string& vertex) const {
    std::string text;
    for (const Link& link : links_) {
      if (link.from == vertex && link.kind == LinkKind::nvlink) {
        const bool near = link.to.starts_with("node0.");
        text += fmt::format("{}{} NVLink {}", text.empty() ? "; to " : ", ",
                            near ? link.to.substr(6) : link.to, format_rate(link.bandwidth));
      } else if (link.from == vertex && link.kind == LinkKind::network) {
        text += fmt::format("; to {} {}", link.to, format_rate(link.bandwidth));
      }
    }
    return text;
  }

  Text& out_;
  std::span<const Link> links_;
  std::set<std::string> done_;
};

void describe_node(Text& out, const Cluster& cluster) {
  const NodeSpec& node = cluster.spec().node;
  print(out, "one node (bandwidths nominal, each direction)\n");
  NodeTree tree(out, cluster);
  for (int i = 0; i < node.host.sockets; ++i) {
    print(out, "  cpu{}{}\n", i,
          node.host.sockets > 1
              ? fmt::format("  bus to the other sockets {}", format_rate(node.host.bus_bandwidth))
              : "");
    tree.describe(fmt::format("node0.cpu{}", i), 2);
  }
  print(out, "\n");
}

void describe_links(Text& out, const Cluster& cluster) {
  print(out, "links of the cluster (both directions counted)\n");
  for (const LinkKind kind : {LinkKind::nvlink, LinkKind::c2c, LinkKind::pcie, LinkKind::cpu_bus,
                              LinkKind::host_memory, LinkKind::network}) {
    std::size_t count = 0;
    BytesPerSecond low;
    BytesPerSecond high;
    for (const Link& link : cluster.links()) {
      if (link.kind == kind) {
        low = count == 0 ? link.bandwidth : std::min(low, link.bandwidth);
        high = std::max(high, link.bandwidth);
        ++count;
      }
    }
    if (count > 0) {
      const std::string range = low == high ? "" : fmt::format(" to {}", format_rate(high));
      print(out, "  {:<12}{:>8} x {}{}\n", word_of(kind), count, format_rate(low), range);
    }
  }
  print(out, "\n");
}

void describe_fabric(Text& out, const Cluster& cluster) {
  const FabricSpec& fabric = cluster.spec().fabric;
  const NodeSpec& node = cluster.spec().node;
  if (fabric.wiring == FabricWiring::none || node.nics.count == 0) {
    print(out, "fabric: none\n\n");
    return;
  }
  const bool by_rails = fabric.wiring == FabricWiring::rail_optimised;
  print(out, "fabric: {}, {} ({} ports a leaf{}), oversubscription {}\n", fabric.technology,
        by_rails ? "rail-optimised" : "fat tree", fabric.leaf_ports,
        by_rails ? ": one rail of a scalable unit of as many nodes" : "",
        format_number(fabric.oversubscription));
  print(out, "  {} NICs of {} per node = {} rails of {}\n\n", node.nics.count,
        format_rate(node.nics.bandwidth), rails(node), format_rate(rail_bandwidth(node)));
}

/// For the cells of the matrix, in the order of PathClass.
char letter_of(PathClass path_class) { return "-NPHXMW"[static_cast<std::size_t>(path_class)]; }

void describe_matrix(Text& out, const Cluster& cluster) {
  const auto count = static_cast<std::size_t>(cluster.gpus_per_node());
  if (count < 2 || count > 32) {
    return;
  }
  print(out, "between GPUs of a node (GB/s)\n       ");
  for (std::size_t to = 0; to < count; ++to) {
    print(out, "{:>8}", fmt::format("gpu{}", to));
  }
  std::set<PathClass> seen;
  for (std::size_t from = 0; from < count; ++from) {
    print(out, "\n{:>7}", fmt::format("gpu{}", from));
    for (std::size_t to = 0; to < count; ++to) {
      const Route& route = cluster.route(GpuId(from), GpuId(to));
      const std::string cell = fmt::format(
          "{}{}", letter_of(route.path_class),
          from == to ? "" : fmt::format(" {:.5g}", cluster.bandwidth(route).value() / 1e9));
      print(out, "{:>8}", cell);
      if (from != to) {
        seen.insert(route.path_class);
      }
    }
  }
  print(out, "\n  nominal, slowest link of the route:");
  for (const PathClass path_class : seen) {
    print(out, " {} = {};", letter_of(path_class), format_path_class(path_class));
  }
  print(out, "\n\n");
}

void describe_route(Text& out, const Cluster& cluster, std::size_t from, std::size_t to) {
  const Route& route = cluster.route(GpuId(from), GpuId(to));
  std::string text;
  for (const LinkId link : route.links) {
    const Link& step = cluster.links()[link.index];
    text += (text.empty() ? step.from : "") + " -> " + step.to;
  }
  print(out, "  {}\n    {}, {}, {}, network switches crossed: {}\n", text,
        format_path_class(route.path_class), format_rate(cluster.bandwidth(route)),
        format_seconds(route.latency), route.network_hops);
}

/// To the same place in the next node, to another place there, and as far as possible.
void describe_routes(Text& out, const Cluster& cluster) {
  if (cluster.node_count() < 2) {
    return;
  }
  const auto per_node = static_cast<std::size_t>(cluster.gpus_per_node());
  const auto last = static_cast<std::size_t>(cluster.gpu_count()) - 1;
  print(out, "routes between nodes\n");
  std::set<std::size_t> targets{per_node, per_node + per_node / 2, last};
  for (const std::size_t to : targets) {
    describe_route(out, cluster, 0, to);
  }
  print(out, "\n");
}

void describe_bisection(Text& out, const Cluster& cluster) {
  if (const auto bisection = cluster.bisection_bandwidth()) {
    print(out, "bisection bandwidth (first half of the GPUs to the second): {}\n",
          format_rate(*bisection));
  } else if (cluster.gpu_count() > 1) {
    print(out, "bisection bandwidth: not computed above {} GPUs\n", Cluster::bisection_limit);
  }
}

}  // namespace

std::string describe_cluster(const Cluster& cluster) {
  Text out;
  describe_size(out, cluster);
  describe_node(out, cluster);
  describe_links(out, cluster);
  describe_fabric(out, cluster);
  describe_matrix(out, cluster);
  describe_routes(out, cluster);
  describe_bisection(out, cluster);
  return fmt::to_string(out);
}

std::string cluster_to_dot(const Cluster& cluster) {
  Text out;
  print(out, "graph \"{}\" {{\n  node [shape=box];\n", cluster.name());
  // A link and its way back have neighbouring ids; the first of the two is drawn.
  for (const Link& link : cluster.links()) {
    if (link.id.index % 2 == 0) {
      print(out, "  \"{}\" -- \"{}\" [label=\"{} {}\"];\n", link.from, link.to, word_of(link.kind),
            format_rate(link.bandwidth));
    }
  }
  print(out, "}}\n");
  return fmt::to_string(out);
}

}  // namespace longhaul
