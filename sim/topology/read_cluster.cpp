#include "sim/topology/read_cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "sim/topology/read_parts.h"

namespace longhaul {

std::vector<std::string> cluster_presets() { return preset_names(FileKind::cluster); }
std::vector<std::string> node_presets() { return preset_names(FileKind::node); }
std::vector<std::string> device_presets() { return preset_names(FileKind::device); }

std::optional<FabricSpec> read_fabric(const YamlValue& map, FileStack& files) {
  Diagnostics& diagnostics = files.diagnostics();
  const std::size_t mistakes = diagnostics.all().size();
  MapReader reader(map, "fabric", diagnostics);
  const auto included = read_include<FabricSpec>(reader, FileKind::fabric, files, read_fabric);
  const bool inherits = reader.has("include");
  FabricSpec fabric = included.value_or(FabricSpec{});
  Inheriting own(reader, inherits);
  fabric.name = reader.text("name", inherits ? fabric.name : "unnamed");
  constexpr std::array wirings{FabricWiring::rail_optimised, FabricWiring::fat_tree};
  const std::size_t wiring = fabric.wiring == FabricWiring::fat_tree ? 1 : 0;
  fabric.wiring = wirings[own.choice("wiring", {"rail_optimised", "fat_tree"}, wiring)];
  const std::vector<std::string> technologies{"infiniband", "roce",      "efa",
                                              "tcpxo",      "slingshot", "ethernet"};
  const auto before = std::find(technologies.begin(), technologies.end(), fabric.technology);
  const bool none = before == technologies.end();
  fabric.technology =
      technologies[own.choice("technology", technologies,
                              none ? 0 : static_cast<std::size_t>(before - technologies.begin()))];
  fabric.leaf_ports = own.integer("leaf_ports", {1, 100000}, fabric.leaf_ports);
  fabric.oversubscription = own.number("oversubscription", 1, 1000, fabric.oversubscription);
  fabric.nic_latency = own.seconds("nic_latency", fabric.nic_latency);
  fabric.uplink_latency = own.seconds("uplink_latency", fabric.uplink_latency);
  reader.text("source", "");
  reader.finish();
  return diagnostics.all().size() == mistakes ? std::optional(fabric) : std::nullopt;
}

namespace {

/// A cluster as written: `nodes` is zero where the file leaves the size open.
struct Written {
  ClusterSpec spec;
  bool fixed = false;
};

/// The short form: `device: NAME` and `gpus: 1`, one GPU in its usual host, no fabric.
void read_single_gpu(MapReader& reader, FileStack& files, Written& written) {
  const std::optional<YamlValue> named = reader.child("device");
  const auto device = read_named_or_inline<Device>(*named, FileKind::device, files, read_device);
  if (reader.integer("gpus", {1, gpu_limit}) != 1) {
    reader.diagnostics().error(reader.place("gpus"), "not-one-gpu",
                               "'device' alone describes a single GPU",
                               "write 'gpus: 1', or name a server with 'node:'");
    return;
  }
  if (!device) {
    return;
  }
  const bool nvlink = device->nvlink_links > 0;
  const auto node = find_usual_node(*device, nvlink, files, named->place());
  if (node) {
    written.spec.node = resized(*node, 1);
    written.spec.node.nvlink = {};
    written.spec.node.nics = {};
    written.spec.node.name = device->name;
    written.spec.node.title = device->title;
  }
  written.fixed = true;
}

void read_parts(MapReader& reader, FileStack& files, Written& written) {
  if (reader.has("device") && !reader.has("node") && !reader.has("include")) {
    return read_single_gpu(reader, files, written);
  }
  const auto node = reader.has("include") ? reader.child("node") : reader.require("node");
  if (node) {
    const auto read = read_named_or_inline<NodeSpec>(*node, FileKind::node, files, read_node);
    written.spec.node = read.value_or(NodeSpec{});
  }
  if (const auto fabric = reader.child("fabric")) {
    const auto read =
        read_named_or_inline<FabricSpec>(*fabric, FileKind::fabric, files, read_fabric);
    written.spec.fabric = read.value_or(FabricSpec{});
  }
  if (reader.has("nodes")) {
    written.spec.nodes = static_cast<int>(reader.integer("nodes", {1, gpu_limit}));
    written.fixed = true;
  }
  reader.ignore("nodes");
}

std::optional<Written> read_written(const YamlValue& map, FileStack& files) {
  Diagnostics& diagnostics = files.diagnostics();
  const std::size_t mistakes = diagnostics.all().size();
  MapReader reader(map, "cluster", diagnostics);
  Written written =
      read_include<Written>(reader, FileKind::cluster, files, read_written).value_or(Written{});
  read_parts(reader, files, written);
  const bool inherits = reader.has("include");
  const std::string fallback = inherits ? written.spec.name : written.spec.node.name;
  written.spec.name = reader.text("name", fallback);
  written.spec.transport = reader.text("transport", written.spec.transport);
  reader.finish();
  return diagnostics.all().size() == mistakes ? std::optional(written) : std::nullopt;
}

/// How many nodes to build: as written, or enough for the GPUs asked for (without a wish, one node
/// or one whole NVLink domain).
int choose_nodes(const Written& written, ClusterSize size, const YamlValue& map,
                 Diagnostics& diagnostics) {
  const ClusterSpec& spec = written.spec;
  const std::int64_t per_node = spec.node.gpus;
  const std::int64_t wanted = size.gpus.value_or(0);
  const std::int64_t needed = wanted / per_node + (wanted % per_node > 0 ? 1 : 0);
  const auto nodes = map.find("nodes");
  const Place place = nodes ? nodes->place() : map.place();
  if (!written.fixed && wanted <= gpu_limit) {
    return static_cast<int>(size.gpus ? std::max<std::int64_t>(needed, 1)
                                      : spec.node.nvlink.domain_nodes);
  }
  const std::int64_t most = written.fixed ? spec.nodes * per_node : gpu_limit;
  if (wanted > most) {
    diagnostics.error(place, "too-many-gpus",
                      fmt::format("cluster '{}' has {}{} GPUs, but {} are asked for", spec.name,
                                  written.fixed ? "" : "at most ", most, wanted),
                      nodes ? fmt::format("ask for at most {}, or write 'nodes: {}'", most, needed)
                            : fmt::format("ask for at most {}", most));
  }
  return spec.nodes;
}

std::optional<Cluster> finish_cluster(const YamlValue& map, ClusterSize size, FileStack& files) {
  Diagnostics& diagnostics = files.diagnostics();
  std::optional<Written> written = read_written(map, files);
  if (!written) {
    return std::nullopt;
  }
  written->spec.nodes = choose_nodes(*written, size, map, diagnostics);
  written->spec.origins = files.origins();
  MapReader reader(map, "cluster", diagnostics);
  if (!diagnostics.has_errors()) {
    record_problems(find_problems(written->spec), reader);
  }
  return diagnostics.has_errors() ? std::nullopt
                                  : std::optional(build_cluster(std::move(written->spec)));
}

}  // namespace

std::optional<Cluster> read_cluster(const YamlValue& map, ClusterSize size,
                                    Diagnostics& diagnostics) {
  // Mistakes of this cluster only, so that others of a scenario do not make it vanish.
  Diagnostics own;
  FileStack files(own);
  std::optional<Cluster> cluster;
  if (map.is_scalar()) {
    cluster = find_cluster(map.scalar(), size, map.place(), own);
  } else {
    cluster = finish_cluster(map, size, files);
  }
  diagnostics.append(own);
  return cluster;
}

std::optional<Cluster> find_cluster(const std::string& name_or_path, ClusterSize size,
                                    const Place& place, Diagnostics& diagnostics) {
  Diagnostics own;
  FileStack files(own);
  std::optional<Cluster> cluster;
  if (const auto map = files.open(FileKind::cluster, name_or_path, place)) {
    cluster = finish_cluster(*map, size, files);
  }
  diagnostics.append(own);
  return cluster;
}

std::optional<Device> find_device(const std::string& name_or_path, const Place& place,
                                  Diagnostics& diagnostics) {
  Diagnostics own;
  FileStack files(own);
  std::optional<Device> device;
  if (const auto map = files.open(FileKind::device, name_or_path, place)) {
    device = read_device(*map, files);
  }
  diagnostics.append(own);
  return device;
}

}  // namespace longhaul
