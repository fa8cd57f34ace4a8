// Nodes for users who name a GPU and not a server.
#include <algorithm>

#include "sim/topology/read_parts.h"

namespace longhaul {

namespace {

struct Usual {
  const char* architecture;
  const char* with_nvlink;
  const char* with_pcie;
};

/// Hosts of the same generation; only they differ between servers of one GPU.
constexpr Usual usual_nodes[] = {
    {"volta", "dgx-a100", "a100-pcie"},     {"ampere", "dgx-a100", "a100-pcie"},
    {"ada", "dgx-a100", "l40s-pcie"},       {"hopper", "dgx-h100", "l40s-pcie"},
    {"blackwell", "dgx-b200", "l40s-pcie"},
};

std::string usual_name(const Device& device, bool nvlink) {
  if (nvlink && device.name == "gb200") {
    return "gb200-tray";
  }
  const auto* found =
      std::find_if(std::begin(usual_nodes), std::end(usual_nodes),
                   [&](const Usual& usual) { return device.architecture == usual.architecture; });
  return nvlink ? found->with_nvlink : found->with_pcie;
}

}  // namespace

std::optional<NodeSpec> find_usual_node(const Device& device, bool nvlink, FileStack& files,
                                        const Place& place) {
  const auto map = files.open(FileKind::node, usual_name(device, nvlink), place);
  if (!map) {
    return std::nullopt;
  }
  std::optional<NodeSpec> node = read_node(*map, files);
  files.close();
  if (node) {
    node->device = device;
    node->title = device.title + " in the host of " + node->title;
    if (node->pcie.switches > 0) {
      node->pcie.switch_uplink = device.pcie_bandwidth;
    }
  }
  return node;
}

NodeSpec resized(NodeSpec node, int gpus) {
  const int before = node.pcie.switches > 0 ? gpus_per_switch(node) : 0;
  const int sockets = node.host.sockets;
  const bool even = before > 0 && gpus % (before * sockets) == 0;
  node.pcie.switches = even ? gpus / before : 0;
  node.host.sockets = gpus % sockets == 0 ? sockets : 1;
  node.nics.count = std::min(node.nics.count, gpus);
  while (node.nics.count > 0 && gpus % node.nics.count != 0) {
    --node.nics.count;
  }
  node.gpus = gpus;
  return node;
}

}  // namespace longhaul
