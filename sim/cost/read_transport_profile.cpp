// Transport profiles from YAML, and finding the one for a cluster.
#include <algorithm>
#include <map>
#include <mutex>

#include "sim/cost/read_collective_tables.h"
#include "sim/cost/read_tuning.h"
#include "sim/cost/transport.h"
#include "sim/input/presets.h"
#include "sim/input/yaml.h"

namespace longhaul {

namespace {

constexpr const char* folder = "calibrate/profiles/transports";

// By TransferKind.
const std::vector<std::string> transfer_words = {
    "ring/LL",     "ring/LL128", "ring/Simple", "tree/LL",    "tree/LL128",
    "tree/Simple", "nvls",       "nvls_tree",   "all_to_all", "send"};

void read_links(MapReader& root, TransportProfile& profile, Diagnostics& diagnostics) {
  if (const auto value = root.require("links")) {
    MapReader reader(*value, "links", diagnostics);
    profile.links.nvlink = reader.number("nvlink", 0.01, 1.0);
    profile.links.pcie = reader.number("pcie", 0.01, 1.0);
    profile.links.cpu_bus = reader.number("cpu_bus", 0.01, 1.0);
    profile.links.network = reader.number("network", 0.01, 1.0);
    profile.links.c2c = reader.number("c2c", 0.01, 1.0);
    profile.links.host_memory = reader.number("host_memory", 0.01, 1.0);
    reader.text("source");
    reader.finish();
  }
}

void read_host(MapReader& root, TransportProfile& profile, Diagnostics& diagnostics) {
  if (const auto value = root.require("host")) {
    MapReader reader(*value, "host", diagnostics);
    profile.host.latency = reader.seconds("latency");
    profile.host.copy_spread = reader.number("copy_spread", 0.0, 1.0);
    profile.host.work_spread = reader.number("work_spread", 0.0, 1.0);
    profile.host.thread_rate = reader.bytes_per_second("thread_rate");
    profile.host.pageable_rate = reader.bytes_per_second("pageable_rate");
    profile.host.pageable_spread = reader.number("pageable_spread", 0.0, 1.0);
    reader.text("source");
    reader.finish();
  }
}

// What a medium does not list: LL and LL128 reach all that NCCL's model leaves of Simple; trees are
// as rings; the rest as a ring with Simple.
void fill_behaviours(Medium& medium, const std::vector<bool>& given) {
  constexpr auto simple = static_cast<std::size_t>(TransferKind::ring_simple);
  constexpr auto tree = static_cast<std::size_t>(TransferKind::tree_ll);
  for (std::size_t kind = 0; kind < transfer_kinds; ++kind) {
    if (given[kind]) {
      continue;
    }
    const bool in_tree = kind >= tree && kind < tree + nccl_protocols;
    medium.behaviours[kind] = medium.behaviours[in_tree ? kind - tree : simple];
    if (kind < simple) {
      medium.behaviours[kind].share = 1.0;
    }
  }
}

void read_behaviours(const YamlValue& list, Medium& medium, Diagnostics& diagnostics) {
  std::vector<bool> given(transfer_kinds, false);
  for (const YamlValue& item : list.items()) {
    MapReader reader(item, "behaviours", diagnostics);
    Behaviour behaviour;
    const std::size_t kind = reader.choice("of", transfer_words);
    behaviour.base = reader.seconds("base");
    behaviour.hop = reader.seconds("hop");
    behaviour.share = reader.number("share", 0.001, 10.0);
    behaviour.own = reader.number("own", 0.0, 10.0, 0.0);
    behaviour.blend = reader.number("blend", 0.25, 10.0, 1.0);
    reader.finish();
    medium.behaviours[kind] = behaviour;
    given[kind] = true;
  }
  const auto simple = static_cast<std::size_t>(TransferKind::ring_simple);
  if (!given[simple]) {
    diagnostics.error(list.place(), "no-ring", "a medium needs 'ring/Simple'",
                      "add an item with 'of: ring/Simple'");
  }
  fill_behaviours(medium, given);
}

void read_media(MapReader& root, TransportProfile& profile, Diagnostics& diagnostics) {
  const auto list = root.require("media");
  if (!list) {
    return;
  }
  for (const YamlValue& item : list->items()) {
    MapReader reader(item, "media", diagnostics);
    Medium medium;
    medium.name = reader.text("name");
    medium.assumed = reader.boolean("assumed", false);
    medium.message_channel = reader.bytes_per_second("message_channel", BytesPerSecond());
    if (const auto behaviours = reader.require("behaviours")) {
      read_behaviours(*behaviours, medium, diagnostics);
    }
    reader.text("source");
    reader.finish();
    profile.media.push_back(medium);
  }
  for (const char* name : {"other", "pcie", "staged", "other-fabric"}) {
    const bool found = std::any_of(profile.media.begin(), profile.media.end(),
                                   [&](const Medium& medium) { return medium.name == name; });
    if (!found) {
      diagnostics.error(list->place(), "no-medium",
                        std::string("there is no medium '") + name + "'",
                        "a profile needs other, pcie, staged and other-fabric");
    }
  }
}

void read_sms_and_memory(MapReader& root, TransportProfile& profile, Diagnostics& diagnostics) {
  profile.launch = root.seconds("launch");
  if (const auto value = root.require("sms")) {
    MapReader reader(*value, "sms", diagnostics);
    profile.channel_limit = static_cast<int>(reader.integer("channel_limit", {1, 1024}));
    profile.sms_send_one_node = static_cast<int>(reader.integer("send_one_node", {0, 1024}));
    profile.sms_send_many_nodes = static_cast<int>(reader.integer("send_many_nodes", {0, 1024}));
    reader.text("source");
    reader.finish();
  }
  if (const auto value = root.require("memory")) {
    MapReader reader(*value, "memory", diagnostics);
    profile.connection_memory = reader.bytes("connection");
    profile.peer_chunk = reader.bytes("peer_chunk");
    profile.network_chunk = reader.bytes("network_chunk");
    profile.slots = static_cast<int>(reader.integer("slots", {1, 1024}));
    profile.nvls_memory_per_channel = reader.bytes("nvls_per_head_and_channel");
    reader.text("source");
    reader.finish();
  }
}

TokenKernelBehaviour read_token_kernel(MapReader& section, const char* key,
                                       Diagnostics& diagnostics) {
  TokenKernelBehaviour behaviour;
  if (const auto value = section.require(key)) {
    MapReader reader(*value, key, diagnostics);
    behaviour.base = reader.seconds("base");
    behaviour.base_network = reader.seconds("base_network");
    behaviour.own = reader.bytes_per_second("own");
    behaviour.sent = reader.bytes_per_second("sent");
    behaviour.network = reader.bytes_per_second("network");
    reader.finish();
  }
  return behaviour;
}

void read_token_kernels(MapReader& root, TransportProfile& profile, Diagnostics& diagnostics) {
  const auto value = root.child("token_kernels");
  if (!value) {
    return;
  }
  MapReader reader(*value, "token_kernels", diagnostics);
  TokenKernels kernels;
  kernels.architecture = reader.text("architecture");
  kernels.nvlink = reader.number("nvlink", 0.01, 1.0);
  kernels.network = reader.number("network", 0.01, 1.0);
  kernels.spread = reader.number("spread", 0.0, 1.0);
  kernels.dispatch = read_token_kernel(reader, "dispatch", diagnostics);
  kernels.combine = read_token_kernel(reader, "combine", diagnostics);
  reader.text("source");
  reader.finish();
  profile.token_kernels = kernels;
}

PerScale<double> read_spread(MapReader& reader, const std::string& key) {
  PerScale<double> spread{};
  const std::vector<std::string> texts = reader.texts(key);
  for (std::size_t i = 0; i < spread.size() && i < texts.size(); ++i) {
    spread[i] = parse_number(texts[i]).value;
  }
  if (texts.size() != spread.size()) {
    reader.diagnostics().error(reader.place(key), "bad-list", key + " needs three numbers",
                               "relative spread below 1 MiB, below 16 MiB, and above");
  }
  return spread;
}

void read_spreads(MapReader& root, TransportProfile& profile, Diagnostics& diagnostics) {
  if (const auto value = root.require("spread")) {
    MapReader reader(*value, "spread", diagnostics);
    profile.spread_one_node = read_spread(reader, "one_node");
    profile.spread_many_nodes = read_spread(reader, "many_nodes");
    reader.finish();
  }
}

void read_pins(MapReader& root, TransportProfile& profile) {
  if (root.has("algorithm")) {
    profile.algorithm = static_cast<NcclAlgorithm>(
        root.choice("algorithm", {"tree", "ring", "nvls", "nvls_tree", "pat"}));
  }
  if (root.has("protocol")) {
    profile.protocol =
        static_cast<NcclProtocol>(root.choice("protocol", {"LL", "LL128", "Simple"}));
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
  profile.fitted_on = root.texts("fitted_on");
  read_spreads(root, profile, diagnostics);
  read_pins(root, profile);
  profile.tuning = read_tuning(root, diagnostics);
  read_links(root, profile, diagnostics);
  read_host(root, profile, diagnostics);
  read_media(root, profile, diagnostics);
  read_sms_and_memory(root, profile, diagnostics);
  read_token_kernels(root, profile, diagnostics);
  profile.origins.push_back(source->name + " sha256:" + sha256_hex(source->text).substr(0, 16));
  read_collective_tables(root, source, profile, diagnostics);
  root.finish();
  if (diagnostics.has_errors()) {
    return std::nullopt;
  }
  return profile;
}

namespace {

// The text of a profile: a built-in one by its name, or the file whose path is given.
std::optional<SourcePtr> find_profile(const std::string& name, Diagnostics& diagnostics) {
  if (name.ends_with(".yaml")) {
    return read_source(name, diagnostics);
  }
  const auto source = embedded_file(std::string(folder) + "/" + name + ".yaml");
  if (!source) {
    diagnostics.error(
        {}, "unknown-transport", "there is no transport profile '" + name + "'",
        "use 'transport: nccl' in the cluster file, or give the path of a .yaml file");
  }
  return source;
}

}  // namespace

TransportCosts find_transport_costs(const Cluster& cluster, Diagnostics& diagnostics,
                                    double network_share) {
  // Profiles do not change while the program runs, so each is read once.
  static std::mutex guard;
  const std::lock_guard lock(guard);
  static std::map<std::string, std::shared_ptr<const TransportProfile>> known;
  auto found = known.find(cluster.transport());
  if (found == known.end()) {
    const auto source = find_profile(cluster.transport(), diagnostics);
    auto profile = source ? read_transport_profile(*source, diagnostics) : std::nullopt;
    if (!profile) {
      throw InputError(diagnostics);
    }
    found = known.emplace(cluster.transport(), std::make_shared<const TransportProfile>(*profile))
                .first;
  }
  if (network_share >= found->second->links.network) {
    return TransportCosts(cluster, found->second);
  }
  TransportProfile slower = *found->second;
  slower.links.network = network_share;
  return TransportCosts(cluster, std::make_shared<const TransportProfile>(std::move(slower)));
}

}  // namespace longhaul
