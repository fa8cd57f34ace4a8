#include "sim/topology/cluster_spec.h"

#include <fmt/format.h>

#include <algorithm>

namespace longhaul {

int gpus_per_switch(const NodeSpec& node) {
  return node.gpus / std::max(node.pcie.switches > 0 ? node.pcie.switches : node.host.sockets, 1);
}

int rails(const NodeSpec& node) { return std::min(node.nics.count, node.gpus); }

BytesPerSecond rail_bandwidth(const NodeSpec& node) {
  return rails(node) == 0 ? BytesPerSecond{}
                          : node.nics.bandwidth * (node.nics.count / rails(node));
}

namespace {

void check_nvlink(const NodeSpec& node, std::vector<SpecProblem>& problems) {
  const Device& device = node.device;
  if (node.nvlink.wiring == NvlinkWiring::none) {
    return;
  }
  if (device.nvlink_bandwidth <= BytesPerSecond{}) {
    problems.push_back({"nvlink", "no-nvlink",
                        fmt::format("device '{}' has no NVLink", device.name),
                        "use a device that has it, or join its GPUs over PCIe alone"});
    return;
  }
  const int used = node.nvlink.links_per_pair * (node.gpus - 1);
  if (node.nvlink.wiring == NvlinkWiring::mesh && used > device.nvlink_links) {
    problems.push_back(
        {"nvlink", "too-many-links",
         fmt::format("a mesh of {} GPUs with {} links per pair needs {} links per GPU; '{}' has {}",
                     node.gpus, node.nvlink.links_per_pair, used, device.name, device.nvlink_links),
         fmt::format("links_per_pair is at most {}",
                     device.nvlink_links / std::max(node.gpus - 1, 1))});
  }
  if (node.nvlink.wiring == NvlinkWiring::pairs && node.gpus % 2 != 0) {
    problems.push_back({"nvlink", "not-divisible",
                        fmt::format("{} GPUs cannot be bridged in pairs", node.gpus),
                        "use an even number of GPUs, or 'wiring: none'"});
  }
}

void check_pcie(const NodeSpec& node, std::vector<SpecProblem>& problems) {
  const int switches = node.pcie.switches;
  const int parents = switches > 0 ? switches : node.host.sockets;
  if (switches % node.host.sockets != 0) {
    problems.push_back(
        {"pcie", "not-divisible",
         fmt::format("{} PCIe switches cannot be dealt evenly to {} sockets", switches,
                     node.host.sockets),
         "use a multiple of the sockets, or 0 for GPUs that sit on the sockets"});
  } else if (node.gpus % parents != 0) {
    problems.push_back({switches > 0 ? "pcie" : "host", "not-divisible",
                        fmt::format("{} GPUs cannot be dealt evenly to {} {}", node.gpus, parents,
                                    switches > 0 ? "PCIe switches" : "sockets"),
                        "the GPUs must be a multiple of them"});
  }
}

void check_nics(const NodeSpec& node, std::vector<SpecProblem>& problems) {
  const int nics = node.nics.count;
  if (nics > 0 && nics % node.gpus != 0 && node.gpus % nics != 0) {
    problems.push_back({"nics", "not-divisible",
                        fmt::format("{} NICs and {} GPUs cannot be dealt evenly", nics, node.gpus),
                        "one must be a multiple of the other; leave out storage adapters"});
  }
}

}  // namespace

std::vector<SpecProblem> find_problems(const NodeSpec& node) {
  std::vector<SpecProblem> problems;
  check_nvlink(node, problems);
  check_pcie(node, problems);
  check_nics(node, problems);
  return problems;
}

std::vector<SpecProblem> find_problems(const ClusterSpec& cluster) {
  std::vector<SpecProblem> problems = find_problems(cluster.node);
  const NodeSpec& node = cluster.node;
  const bool one_domain = node.nvlink.wiring == NvlinkWiring::switched &&
                          cluster.nodes <= node.nvlink.domain_nodes;
  if (cluster.nodes > gpu_limit / node.gpus) {
    problems.push_back({"nodes", "too-many-gpus",
                        fmt::format("{} nodes of {} GPUs are more than {} GPUs", cluster.nodes,
                                    node.gpus, gpu_limit),
                        "ask for fewer"});
  }
  if (cluster.nodes == 1 || one_domain) {
    return problems;
  }
  if (cluster.fabric.wiring == FabricWiring::none) {
    problems.push_back({"nodes", "disconnected-topology",
                        fmt::format("{} nodes, but no fabric joins them", cluster.nodes),
                        "add 'fabric:', or use a single node"});
  } else if (node.nics.count == 0) {
    problems.push_back({"fabric", "disconnected-topology",
                        fmt::format("{} nodes, but node '{}' has no NICs", cluster.nodes,
                                    node.name),
                        "add 'nics:' to the node, or use a single node"});
  }
  return problems;
}

}  // namespace longhaul
