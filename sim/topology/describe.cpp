#include "sim/topology/describe.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
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
  NodeTree(Text& out, const Cluster& cluster) : out_(out) {
    for (const Link& link : cluster.links()) {
      if (link.from.starts_with("node0.")) {
        links_.push_back(&link);
      }
    }
  }

  void describe(const std::string& vertex, int depth) {
    done_.insert(vertex);
    for (const Link* link : links_) {
      const bool within = link->to.starts_with("node0.") && link->kind != LinkKind::nvlink &&
                          link->kind != LinkKind::cpu_bus;
      if (link->from != vertex || !within || done_.contains(link->to)) {
        continue;
      }
      print(out_, "{:{}}{}  {} {}{}\n", "", 2 * depth, link->to.substr(6), word_of(link->kind),
            format_rate(link->bandwidth), nvlinks_of(link->to));
      describe(link->to, depth + 1);
    }
  }

 private:
  [[nodiscard]] std::string nvlinks_of(const std::string& vertex) const {
    std::string text;
    for (const Link* link : links_) {
      if (link->from == vertex && link->kind == LinkKind::nvlink) {
        const bool near = link->to.starts_with("node0.");
        text += fmt::format("{}{} NVLink {}", text.empty() ? "; to " : ", ",
                            near ? link->to.substr(6) : link->to, format_rate(link->bandwidth));
      } else if (link->from == vertex && link->kind == LinkKind::network) {
        text += fmt::format("; to {} {}", link->to, format_rate(link->bandwidth));
      }
    }
    return text;
  }

  Text& out_;
  std::vector<const Link*> links_;  ///< that leave a vertex of node 0
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
  for (const LinkSummary& sum : summarize_links(cluster)) {
    const std::string range =
        sum.slowest == sum.fastest ? "" : fmt::format(" to {}", format_rate(sum.fastest));
    print(out, "  {:<12}{:>8} x {:<26} total {}\n", sum.kind, sum.count,
          format_rate(sum.slowest) + range, format_rate(sum.total));
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

/// GPUs that a matrix is wide enough for.
constexpr int matrix_limit = 16;

/// "NV18 450", "SYS* 31.5": the star marks copies that are staged in host memory.
std::string cell_of(const Cluster& cluster, GpuId from, GpuId to) {
  if (from == to) {
    return "X";
  }
  const Route& route = cluster.route(from, to);
  const bool staged = route.path_class == PathClass::host_staged;
  return fmt::format("{}{} {:.4g}", cluster.path_name(from, to), staged ? "*" : "",
                     cluster.bandwidth(route).value() / 1e9);
}

void describe_matrix(Text& out, const Cluster& cluster) {
  const bool whole = cluster.gpu_count() <= 8;  // wider, one node tells as much
  const auto count =
      static_cast<std::size_t>(whole ? cluster.gpu_count() : cluster.gpus_per_node());
  if (count < 2 || count > matrix_limit) {
    return;
  }
  print(out, "between GPUs{} (nominal GB/s of the slowest link)\n       ",
        whole && cluster.node_count() > 1 ? "" : " of a node");
  for (std::size_t to = 0; to < count; ++to) {
    print(out, "{:>11}", fmt::format("gpu{}", to));
  }
  bool staged = false;
  for (std::size_t from = 0; from < count; ++from) {
    print(out, "\n{:>7}", fmt::format("gpu{}", from));
    for (std::size_t to = 0; to < count; ++to) {
      const std::string cell = cell_of(cluster, GpuId(from), GpuId(to));
      staged = staged || cell.find('*') != cell.npos;
      print(out, "{:>11}", cell);
    }
  }
  print(out, "\n  names as in nvidia-smi topo -m{}\n\n",
        staged ? "; * staged in host memory: no peer access on this path" : "");
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
  const Bisections bisections = find_bisections(cluster);
  const auto line = [&](const char* of, const std::optional<BytesPerSecond>& rate) {
    if (rate) {
      print(out, "  {:<44}{}\n", of, format_rate(*rate));
    }
  };
  if (cluster.gpu_count() > 1) {
    print(out, "bisection bandwidth (first half to the second)\n");
  }
  line("GPUs of a node:", bisections.node);
  line("GPUs of an NVLink domain, over NVLink:", bisections.domain);
  line("NICs of the nodes, over the fabric alone:", bisections.fabric);
  line("GPUs of the cluster:", bisections.cluster);
  if (!bisections.cluster && cluster.gpu_count() > 1) {
    print(out, "  GPUs of the cluster: not computed above {} GPUs\n", Cluster::bisection_limit);
  }
}

/// The slowest link of a route, the first of equals.
const Link& bottleneck_of(const Cluster& cluster, const Route& route) {
  const auto slowest =
      std::min_element(route.links.begin(), route.links.end(), [&](LinkId a, LinkId b) {
        return cluster.links()[a.index].bandwidth < cluster.links()[b.index].bandwidth;
      });
  return cluster.links()[slowest->index];
}

}  // namespace

std::vector<LinkSummary> summarize_links(const Cluster& cluster) {
  constexpr std::array kinds{LinkKind::nvlink,  LinkKind::c2c,         LinkKind::pcie,
                             LinkKind::cpu_bus, LinkKind::host_memory, LinkKind::network};
  std::vector<LinkSummary> all(kinds.size());
  for (const Link& link : cluster.links()) {
    const auto kind = std::find(kinds.begin(), kinds.end(), link.kind) - kinds.begin();
    LinkSummary& sum = all[static_cast<std::size_t>(kind)];
    sum.kind = word_of(link.kind);
    sum.slowest = sum.count == 0 ? link.bandwidth : std::min(sum.slowest, link.bandwidth);
    sum.fastest = std::max(sum.fastest, link.bandwidth);
    sum.total += link.bandwidth;
    ++sum.count;
  }
  std::erase_if(all, [](const LinkSummary& sum) { return sum.count == 0; });
  return all;
}

Bisections find_bisections(const Cluster& cluster) {
  const auto halves = [&](const std::vector<GpuId>& gpus) -> std::optional<BytesPerSecond> {
    if (gpus.size() < 2 || gpus.size() > Cluster::bisection_limit) {
      return std::nullopt;
    }
    const std::size_t half = gpus.size() / 2;
    return cluster.flow_between(std::span(gpus).first(half), std::span(gpus).subspan(half));
  };
  std::vector<GpuId> node;
  std::vector<GpuId> domain;
  const auto most =
      static_cast<std::size_t>(std::min(cluster.gpu_count(), Cluster::bisection_limit + 1));
  for (std::size_t i = 0; i < most; ++i) {
    if (cluster.node_of(GpuId(i)) == 0) {
      node.emplace_back(i);
    }
    if (cluster.nvlink_domain_of(GpuId(i)) == 0) {
      domain.emplace_back(i);
    }
  }
  return {halves(node), halves(domain), cluster.fabric_bisection(), cluster.bisection_bandwidth()};
}

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

std::string describe_path(const Cluster& cluster, GpuId from, GpuId to) {
  const Route& route = cluster.route(from, to);
  Text out;
  print(out, "GPU {} to GPU {}: {} ({}", from.index, to.index, cluster.path_name(from, to),
        format_path_class(route.path_class));
  if (route.links.empty()) {
    print(out, ")\n");
    return fmt::to_string(out);
  }
  print(out, "), {} links, network switches crossed: {}\n", route.links.size(), route.network_hops);
  for (const LinkId id : route.links) {
    const Link& link = cluster.links()[id.index];
    print(out, "  {:<24} -> {:<24} {:<12} {:>10}  {}\n", link.from, link.to, word_of(link.kind),
          format_rate(link.bandwidth), format_seconds(link.latency));
  }
  const Link& slowest = bottleneck_of(cluster, route);
  print(out, "  bandwidth {} (nominal), limited by {} -> {}; latency {}\n",
        format_rate(cluster.bandwidth(route)), slowest.from, slowest.to,
        format_seconds(route.latency));
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
