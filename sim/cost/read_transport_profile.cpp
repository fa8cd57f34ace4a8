// Transport profiles from YAML, and finding the one for a cluster.
#include <map>
#include <mutex>

#include "sim/cost/read_collective_tables.h"
#include "sim/cost/transport.h"
#include "sim/input/presets.h"
#include "sim/input/yaml.h"

namespace longhaul {

namespace {

constexpr const char* folder = "calibrate/profiles/transports";

void read_nvlink(MapReader& root, TransportProfile& profile, Diagnostics& diagnostics) {
  const auto list = root.require("nvlink");
  if (!list) {
    return;
  }
  for (const YamlValue& item : list->items()) {
    MapReader reader(item, "nvlink", diagnostics);
    NvlinkEfficiency efficiency;
    const std::string architecture = reader.text("architecture");
    efficiency.ring = reader.number("ring", 0.01, 1.0);
    efficiency.all_to_all = reader.number("all_to_all", 0.01, 1.0);
    efficiency.send = reader.number("send", 0.01, 1.0);
    efficiency.nvls = reader.number("nvls", 0.0, 1.0, 0.0);
    reader.text("source");
    reader.finish();
    profile.nvlink[architecture] = efficiency;
  }
}

void read_protocols(MapReader& root, TransportProfile& profile, Diagnostics& diagnostics) {
  const auto list = root.require("protocols");
  if (!list) {
    return;
  }
  for (const YamlValue& item : list->items()) {
    MapReader reader(item, "protocols", diagnostics);
    TransportProtocol protocol;
    protocol.name = reader.text("name");
    protocol.bandwidth = reader.number("bandwidth", 0.01, 1.0);
    protocol.limit = reader.bytes_per_second("limit", BytesPerSecond());
    protocol.base = reader.seconds("base");
    protocol.nvlink_hop = reader.seconds("nvlink_hop");
    protocol.pcie_hop = reader.seconds("pcie_hop");
    protocol.network_hop = reader.seconds("network_hop");
    reader.text("source");
    reader.finish();
    profile.protocols.push_back(protocol);
  }
}

void read_efficiencies(MapReader& root, TransportProfile& profile, Diagnostics& diagnostics) {
  if (const auto value = root.require("efficiency")) {
    MapReader reader(*value, "efficiency", diagnostics);
    profile.pcie = reader.number("pcie", 0.01, 1.0);
    profile.cpu_bus = reader.number("cpu_bus", 0.01, 1.0);
    profile.c2c = reader.number("c2c", 0.01, 1.0);
    profile.host_memory = reader.number("host_memory", 0.01, 1.0);
    profile.host_staged = reader.number("host_staged", 0.01, 1.0);
    profile.network = reader.number("network", 0.01, 1.0);
    profile.network_all_to_all = reader.number("network_all_to_all", 0.01, 1.0);
    profile.network_tree = reader.number("network_tree", 0.01, 1.0);
    reader.text("source");
    reader.finish();
  }
}

void read_latencies_and_sms(MapReader& root, TransportProfile& profile, Diagnostics& diagnostics) {
  if (const auto value = root.require("latency")) {
    MapReader reader(*value, "latency", diagnostics);
    profile.launch = reader.seconds("launch");
    profile.nvls_latency = reader.seconds("nvls");
    profile.peer_latency = reader.seconds("per_peer");
    reader.text("source");
    reader.finish();
  }
  if (const auto value = root.require("sms")) {
    MapReader reader(*value, "sms", diagnostics);
    profile.sms_one_node = static_cast<int>(reader.integer("one_node", {0, 1024}));
    profile.sms_nvls = static_cast<int>(reader.integer("nvls", {0, 1024}));
    profile.sms_many_nodes = static_cast<int>(reader.integer("many_nodes", {0, 1024}));
    profile.sms_send_one_node = static_cast<int>(reader.integer("send_one_node", {0, 1024}));
    profile.sms_send_many_nodes = static_cast<int>(reader.integer("send_many_nodes", {0, 1024}));
    profile.nvls_from_gpus = static_cast<int>(reader.integer("nvls_from_gpus", {2, 1 << 20}));
    reader.text("source");
    reader.finish();
  }
  if (const auto value = root.require("memory")) {
    MapReader reader(*value, "memory", diagnostics);
    profile.ring_memory = reader.bytes("per_channel");
    profile.peer_memory = reader.bytes("per_peer");
    reader.text("source");
    reader.finish();
  }
}

}  // namespace

std::optional<TransportProfile> read_transport_profile(const SourcePtr& source,
                                                       Diagnostics& diagnostics) {
  const auto document = YamlValue::parse(source, diagnostics);
  if (!document) {
    return std::nullopt;
  }
  TransportProfile profile;
  MapReader root(*document, "transport profile", diagnostics);
  root.choice("format", {"longhaul-transport/1"});
  profile.name = root.text("name");
  profile.calibrated = root.boolean("calibrated");
  profile.spread = root.number("spread", 0.0, 2.0);
  read_nvlink(root, profile, diagnostics);
  read_protocols(root, profile, diagnostics);
  read_efficiencies(root, profile, diagnostics);
  read_latencies_and_sms(root, profile, diagnostics);
  read_collective_tables(root, profile, diagnostics);
  root.finish();
  profile.origins.push_back(source->name + " sha256:" + sha256_hex(source->text).substr(0, 16));
  if (diagnostics.has_errors() || profile.protocols.empty()) {
    return std::nullopt;
  }
  return profile;
}

TransportCosts find_transport_costs(const Cluster& cluster, Diagnostics& diagnostics) {
  // Embedded profiles never change while the program runs, so each is read once.
  static std::mutex guard;
  const std::lock_guard lock(guard);
  static std::map<std::string, std::shared_ptr<const TransportProfile>> known;
  const std::string path = std::string(folder) + "/" + cluster.transport() + ".yaml";
  auto found = known.find(path);
  if (found == known.end()) {
    const auto source = embedded_file(path);
    if (!source) {
      diagnostics.error({}, "unknown-transport",
                        "there is no transport profile '" + cluster.transport() + "'",
                        "use 'transport: nccl' in the cluster file");
      throw InputError(diagnostics);
    }
    auto profile = read_transport_profile(*source, diagnostics);
    diagnostics.throw_if_errors();
    found = known.emplace(path, std::make_shared<const TransportProfile>(*profile)).first;
  }
  return TransportCosts(cluster, found->second);
}

}  // namespace longhaul
