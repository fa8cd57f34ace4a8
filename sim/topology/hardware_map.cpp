#include "sim/topology/hardware_map.h"

#include <fmt/format.h>

#include <array>

#include "sim/topology/read_parts.h"

namespace longhaul {

namespace {

constexpr IntegerRange gpus_range{1, gpu_limit};
constexpr IntegerRange per_node_range{1, 1024};
// Servers of four double-width cards join them to their CPUs' own lanes, those of eight need
// switches (Dell's technical guides: PowerEdge R750xa and R760xa against the DSS 8440).
constexpr int cards_without_switches = 4;

/// Joins the GPUs of a node as the run says.
void read_wiring(MapReader& reader, NodeSpec& node, bool nvlink, bool mesh) {
  if (!nvlink) {
    node.nvlink = {};
  } else if (mesh) {
    node.nvlink.wiring = NvlinkWiring::mesh;
    node.nvlink.links_per_pair = node.device.nvlink_links / std::max(node.gpus - 1, 1);
  }
  constexpr std::array accesses{PeerAccess::everywhere, PeerAccess::same_switch, PeerAccess::never};
  const auto before = std::find(accesses.begin(), accesses.end(), node.pcie.peer_access);
  node.pcie.peer_access =
      accesses[reader.choice("pcie_p2p", {"true", "same_switch", "false"},
                             static_cast<std::size_t>(before - accesses.begin()))];
}

std::optional<NodeSpec> read_hardware_node(MapReader& reader, FileStack& files,
                                           const HardwareRemarks& remarks) {
  const std::string name = reader.text("device");
  const std::size_t joined =
      reader.choice("intra_node", {"nvswitch", "nvlink", "nvlink_mesh", "pcie"});
  const bool nvlink = joined != 3;
  std::optional<Device> device;
  if (const auto map = files.open(FileKind::device, name, reader.place("device"))) {
    device = read_device(*map, files);
    files.close();
  }
  const auto usual =
      device ? find_usual_node(*device, nvlink, files, reader.place("device")) : std::nullopt;
  if (!usual) {
    reader.integer("gpus_per_node", per_node_range, 1);
    reader.ignore("pcie_p2p");
    return std::nullopt;
  }
  const auto per_node =
      static_cast<int>(reader.integer("gpus_per_node", per_node_range, usual->gpus));
  NodeSpec node = per_node == usual->gpus ? *usual : resized(*usual, per_node);
  node.name = device->name;
  if (remarks.peer_access_off) {
    node.pcie.peer_access = PeerAccess::never;
  }
  if (!nvlink && per_node <= cards_without_switches) {
    node.pcie.switches = 0;
  }
  read_wiring(reader, node, nvlink, joined == 2);
  const auto nics =
      static_cast<int>(reader.integer("nics_per_node", {0, 1024}, node.nics.count));
  node.nics.count = remarks.nics_unknown && nics == 1 ? node.nics.count : nics;
  node.nics.bandwidth = reader.bytes_per_second("nic_rate", node.nics.bandwidth);
  return node;
}

FabricSpec read_hardware_fabric(MapReader& reader, FileStack& files) {
  const std::vector<std::string> words{"none", "infiniband", "roce", "efa", "unknown"};
  const std::array presets{"", "infiniband-rails", "roce-rails", "efa", "infiniband-rails"};
  const std::size_t chosen = reader.choice("fabric", words, 0);
  if (chosen == 0) {
    return {};
  }
  const auto map = files.open(FileKind::fabric, presets.at(chosen), reader.place("fabric"));
  const auto fabric = map ? read_fabric(*map, files) : std::nullopt;
  if (map) {
    files.close();
  }
  return fabric.value_or(FabricSpec{});
}

// Records do not tell which leaves a job had. Jobs of more nodes than a leaf has ports are taken to
// have been scattered: every pair of nodes meets at the spine. That is also what makes its replicas
// alike, so that thousands of GPUs fold.
void spread_over_leaves(ClusterSpec& spec) {
  const bool rails = spec.fabric.wiring == FabricWiring::rail_optimised;
  if (rails && spec.nodes > spec.fabric.leaf_ports) {
    spec.fabric.leaf_ports = 1;
  }
}

}  // namespace

std::optional<Cluster> cluster_from_hardware(const YamlValue& hardware, Diagnostics& diagnostics,
                                             const HardwareRemarks& remarks) {
  Diagnostics own;
  FileStack files(own);
  MapReader reader(hardware, "hardware", own);
  const std::int64_t gpus = reader.integer("gpus", gpus_range);
  const std::optional<NodeSpec> node = read_hardware_node(reader, files, remarks);
  ClusterSpec spec;
  spec.fabric = read_hardware_fabric(reader, files);
  reader.ignore("nics_per_node");
  reader.ignore("nic_rate");
  reader.finish();
  if (node && !own.has_errors()) {
    spec.node = *node;
    spec.nodes = static_cast<int>((gpus + node->gpus - 1) / node->gpus);
    spread_over_leaves(spec);
    spec.name = fmt::format("{} x {}", spec.nodes * node->gpus, node->device.name);
    spec.origins = files.origins();
    for (SpecProblem problem : find_problems(spec)) {
      const bool of_gpus = problem.key == "nodes" || problem.key == "host" || problem.key == "pcie";
      problem.key = problem.key == "nvlink" ? "intra_node"
                    : problem.key == "nics" ? "nics_per_node"
                    : of_gpus               ? "gpus"
                                            : problem.key;
      record_problems({problem}, reader);
    }
    if (const auto fabric = hardware.find("fabric"); fabric && fabric->scalar() == "unknown") {
      own.note(fabric->place(), "assumed-fabric",
               "the fabric is unknown: InfiniBand by rails assumed",
               "write 'fabric: infiniband', 'roce' or 'efa' if you know it");
    }
  }
  diagnostics.append(own);
  return node && !own.has_errors() ? std::optional(build_cluster(std::move(spec))) : std::nullopt;
}

}  // namespace longhaul
