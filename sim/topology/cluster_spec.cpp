#include "sim/topology/cluster_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "sim/topology/node_wiring.h"

namespace longhaul {

std::string format_seat(const Seat& seat) {
  if (seat.kind == Seat::Kind::pcie_switch) {
    return fmt::format("pcie{}", seat.index);
  }
  return seat.bridge ? fmt::format("cpu{}.bridge{}", seat.index, *seat.bridge)
                     : fmt::format("cpu{}", seat.index);
}

namespace {

/// The most GPUs below one switch that hangs on a socket; without switches, on one socket.
int most_together(const NodeSpec& node) {
  std::map<std::string, int> below;
  int most = 1;
  for (const GpuPlace& gpu : node.layout->gpus) {
    const std::vector<Seat> above = seats_above(node.layout->switches, gpu.seat);
    const bool switched = above.size() > 1;
    if (switched || node.pcie.switches == 0) {
      const Seat& top = switched ? above[above.size() - 2] : above.back();
      const std::string name =
          top.kind == Seat::Kind::pcie_switch ? format_seat(top) : fmt::format("cpu{}", top.index);
      most = std::max(most, ++below[name]);
    }
  }
  return most;
}

}  // namespace

int gpus_per_switch(const NodeSpec& node) {
  if (node.layout) {
    return most_together(node);
  }
  return node.gpus / std::max(node.pcie.switches > 0 ? node.pcie.switches : node.host.sockets, 1);
}

int rails(const NodeSpec& node) {
  return node.layout ? static_cast<int>(wire_node(node).rails.size())
                     : std::min(node.nics.count, node.gpus);
}

BytesPerSecond rail_bandwidth(const NodeSpec& node) {
  if (node.layout) {
    const std::vector<Rail> all = wire_node(node).rails;
    const auto slowest = std::min_element(
        all.begin(), all.end(), [](const Rail& a, const Rail& b) { return a.rate < b.rate; });
    return slowest == all.end() ? BytesPerSecond{} : slowest->rate;
  }
  return rails(node) == 0 ? BytesPerSecond{}
                          : node.nics.bandwidth * (node.nics.count / rails(node));
}

namespace {

void check_listed(const NodeSpec& node, std::vector<SpecProblem>& problems) {
  std::vector<int> used(static_cast<std::size_t>(node.gpus));
  for (std::size_t i = 0; i < node.nvlink.listed.size(); ++i) {
    const NvlinkPair& pair = node.nvlink.listed[i];
    if (pair.a < 0 || pair.a >= pair.b || pair.b >= node.gpus) {
      problems.push_back(
          {"nvlink", "bad-pair",
           pair.a == pair.b
               ? fmt::format("GPU {} is linked to itself", pair.a)
               : fmt::format("GPUs {} and {} are not two GPUs of {}, the lower number first",
                             pair.a, pair.b, node.gpus),
           fmt::format("write {{gpus: [a, b], links: n}} with 0 <= a < b < {}", node.gpus)});
      return;
    }
    const auto same = [&](const NvlinkPair& other) {
      return other.a == pair.a && other.b == pair.b;
    };
    if (std::find_if(node.nvlink.listed.begin(), node.nvlink.listed.end(), same) -
            node.nvlink.listed.begin() <
        static_cast<std::ptrdiff_t>(i)) {
      problems.push_back({"nvlink", "repeated-pair",
                          fmt::format("GPUs {} and {} are listed twice", pair.a, pair.b),
                          "write their links once, with the total number"});
    }
    used[static_cast<std::size_t>(pair.a)] += pair.links;
    used[static_cast<std::size_t>(pair.b)] += pair.links;
  }
  const auto most = std::max_element(used.begin(), used.end());
  if (most != used.end() && *most > node.device.nvlink_links) {
    problems.push_back({"nvlink", "too-many-links",
                        fmt::format("GPU {} uses {} NVLinks; '{}' has {}", most - used.begin(),
                                    *most, node.device.name, node.device.nvlink_links),
                        "is it another device?"});
  }
}

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
  if (node.nvlink.wiring == NvlinkWiring::listed) {
    return check_listed(node, problems);
  }
  if (node.nvlink.links_per_gpu > device.nvlink_links) {
    problems.push_back({"nvlink", "too-many-links",
                        fmt::format("{} links per GPU to the NVSwitches; '{}' has {}",
                                    node.nvlink.links_per_gpu, device.name, device.nvlink_links),
                        "is it another device?"});
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
    problems.push_back({"pcie", "not-divisible",
                        fmt::format("{} PCIe switches cannot be dealt evenly to {} sockets",
                                    switches, node.host.sockets),
                        "use a multiple of the sockets, or 0 for GPUs that sit on the sockets"});
  } else if (node.gpus % parents != 0) {
    problems.push_back({switches > 0 ? "pcie" : "host", "not-divisible",
                        fmt::format("{} GPUs cannot be dealt evenly to {} {}", node.gpus, parents,
                                    switches > 0 ? "PCIe switches" : "sockets"),
                        "the GPUs must be a multiple of them"});
  }
}

/// A seat must exist; `below` bounds the number of a switch.
bool exists(const Seat& seat, const NodeSpec& node, int below) {
  return seat.index >= 0 &&
         seat.index < (seat.kind == Seat::Kind::socket ? node.host.sockets : below);
}

void check_layout(const NodeSpec& node, std::vector<SpecProblem>& problems) {
  const Layout& layout = *node.layout;
  const auto count = [&](const char* what, std::size_t listed, int wanted, const char* key) {
    if (listed != static_cast<std::size_t>(wanted)) {
      problems.push_back(
          {"layout", "wrong-count",
           fmt::format("the layout places {} {}, but '{}' says {}", listed, what, key, wanted),
           "list every one of them, or change the number"});
    }
  };
  count("PCIe switches", layout.switches.size(), node.pcie.switches, "pcie: switches");
  count("GPUs", layout.gpus.size(), node.gpus, "gpus");
  count("NICs", layout.nics.size(), node.nics.count, "nics: count");
  const auto seat = [&](const Seat& at, const std::string& what, int below) {
    if (!exists(at, node, below)) {
      problems.push_back(
          {"layout", "no-such-seat",
           fmt::format("{} is on {}, which is no place for it", what, format_seat(at)),
           "sockets are cpu0, cpu1, ... below 'sockets'; a switch hangs on a socket "
           "or on a switch of a lower number"});
    }
  };
  for (std::size_t i = 0; i < layout.switches.size(); ++i) {
    seat(layout.switches[i].seat, fmt::format("pcie{}", i), static_cast<int>(i));
    if (layout.switches[i].uplink <= BytesPerSecond{} &&
        node.pcie.switch_uplink <= BytesPerSecond{}) {
      problems.push_back({"layout", "no-bandwidth", fmt::format("pcie{} has no uplink rate", i),
                          "give it 'uplink', or 'pcie' a 'switch_uplink' for all"});
    }
  }
  const auto switches = static_cast<int>(layout.switches.size());
  for (std::size_t i = 0; i < layout.gpus.size(); ++i) {
    seat(layout.gpus[i].seat, fmt::format("GPU {}", i), switches);
  }
  for (std::size_t i = 0; i < layout.nics.size(); ++i) {
    const NicPlace& nic = layout.nics[i];
    seat(nic.seat, fmt::format("NIC {}", i), switches);
    if (!nic.storage && nic.rate <= BytesPerSecond{} && node.nics.bandwidth <= BytesPerSecond{}) {
      problems.push_back({"layout", "no-bandwidth", fmt::format("NIC {} has no rate", i),
                          "give it 'rate', or 'nics' a 'rate' for all"});
    }
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
  if (node.layout) {
    check_layout(node, problems);
  } else {
    check_pcie(node, problems);
    check_nics(node, problems);
  }
  return problems;
}

std::vector<SpecProblem> find_problems(const ClusterSpec& cluster) {
  std::vector<SpecProblem> problems = find_problems(cluster.node);
  const NodeSpec& node = cluster.node;
  const bool one_domain =
      node.nvlink.wiring == NvlinkWiring::switched && cluster.nodes <= node.nvlink.domain_nodes;
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
  } else if (!problems.empty()) {
    return problems;  // a node that is wrong has no NICs to count
  } else if (rails(node) == 0) {
    problems.push_back(
        {"fabric", "disconnected-topology",
         fmt::format("{} nodes, but node '{}' has no NICs", cluster.nodes, node.name),
         "add 'nics:' to the node, or use a single node"});
  }
  return problems;
}

}  // namespace longhaul
