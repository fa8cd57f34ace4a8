// Nodes from maps: one section per kind of wiring, each with its source.
#include <array>

#include "sim/topology/read_parts.h"

namespace longhaul {

namespace {

constexpr IntegerRange gpus_range{1, 1024};
constexpr IntegerRange parts_range{0, 1024};

/// Opens a section of a node. Its keys are demanded unless an included node has the section.
/// `read` takes (MapReader&, Inheriting&).
template <class Read>
void read_section(MapReader& node, const std::string& key, bool inherits, Read read) {
  const std::optional<YamlValue> value = node.child(key);
  if (!value) {
    return;
  }
  MapReader section(*value, "'" + key + "'", node.diagnostics());
  Inheriting own(section, inherits);
  read(section, own);
  section.text("source", "");
  section.finish();
}

/// As read_section, of a section that a node must have.
template <class Read>
void require_section(MapReader& node, const std::string& key, bool inherits, Read read) {
  if (!inherits) {
    node.require(key);
  }
  read_section(node, key, inherits, read);
}

template <class T, std::size_t N>
std::size_t index_of(const std::array<T, N>& values, T value) {
  return static_cast<std::size_t>(std::find(values.begin(), values.end(), value) - values.begin());
}

/// `pairs: [{gpus: [0, 1], links: 4}, ...]`.
void read_listed(MapReader& section, std::vector<NvlinkPair>& listed) {
  const auto pairs = listed.empty() ? section.require("pairs") : section.child("pairs");
  if (!pairs) {
    return;
  }
  listed.clear();
  if (!pairs->is_sequence()) {
    section.diagnostics().error(pairs->place(), "wrong-type",
                                "'pairs' must be a list of {gpus: [a, b], links: n}");
    return;
  }
  for (const YamlValue& item : pairs->items()) {
    MapReader reader(item, "pair", section.diagnostics());
    NvlinkPair pair;
    if (const auto gpus = reader.require("gpus")) {
      const std::vector<YamlValue> ends = gpus->items();
      const auto number = [&](std::size_t i) {
        const Parsed<std::int64_t> parsed =
            i < ends.size() ? parse_integer(ends[i].scalar()) : parse_integer("");
        return parsed.ok() && parsed.value >= 0 && parsed.value < gpus_range.high
                   ? static_cast<int>(parsed.value)
                   : -1;
      };
      pair.a = number(0);
      pair.b = number(1);
      if (ends.size() != 2 || pair.a < 0 || pair.b < 0) {
        reader.diagnostics().error(gpus->place(), "wrong-type",
                                   "'gpus' of a pair must be two numbers of GPUs",
                                   "for example [0, 1]");
      }
    }
    pair.links = static_cast<int>(reader.integer("links", {1, 1024}));
    reader.finish();
    listed.push_back(pair);
  }
  std::sort(listed.begin(), listed.end(), [](const NvlinkPair& x, const NvlinkPair& y) {
    return std::pair(x.a, x.b) < std::pair(y.a, y.b);
  });
}

void read_nvlink(MapReader& node, bool inherits, NvlinkSpec& nvlink) {
  constexpr std::array wirings{NvlinkWiring::none, NvlinkWiring::switched, NvlinkWiring::mesh,
                               NvlinkWiring::pairs, NvlinkWiring::listed};
  read_section(node, "nvlink", inherits, [&](MapReader& section, Inheriting& own) {
    const std::size_t before = index_of(wirings, nvlink.wiring);
    nvlink.wiring =
        wirings[own.choice("wiring", {"none", "switch", "mesh", "pairs", "listed"}, before)];
    if (nvlink.wiring == NvlinkWiring::none) {
      return;
    }
    nvlink.latency = own.seconds("latency", nvlink.latency);
    if (nvlink.wiring == NvlinkWiring::mesh) {
      nvlink.links_per_pair = own.integer("links_per_pair", {1, 1024}, nvlink.links_per_pair);
    }
    if (nvlink.wiring == NvlinkWiring::switched) {
      nvlink.domain_nodes =
          static_cast<int>(section.integer("domain_nodes", {1, 1024}, nvlink.domain_nodes));
      nvlink.links_per_gpu =
          static_cast<int>(section.integer("links_per_gpu", {1, 1024}, nvlink.links_per_gpu));
    }
    if (nvlink.wiring == NvlinkWiring::listed) {
      read_listed(section, nvlink.listed);
    }
  });
}

void read_host(MapReader& node, bool inherits, HostSpec& host) {
  require_section(node, "host", inherits, [&](MapReader& section, Inheriting& own) {
    host.memory = section.bytes("memory", host.memory);
    host.sockets = own.integer("sockets", {1, 16}, host.sockets);
    host.cores = static_cast<int>(section.integer("cores", {0, 65536}, host.cores));
    host.memory_bandwidth = own.rate("memory_bandwidth", host.memory_bandwidth);
    host.memory_latency = own.seconds("memory_latency", host.memory_latency);
    host.speed = section.number("speed", 0.05, 20.0, host.speed);
    if (host.sockets > 1) {
      host.bus_bandwidth = own.rate("bus_bandwidth", host.bus_bandwidth);
      host.bus_latency = own.seconds("bus_latency", host.bus_latency);
    }
  });
}

void read_pcie(MapReader& node, bool inherits, PcieSpec& pcie) {
  const bool has_layout = node.has("layout");  // which may give every switch its own uplink
  require_section(node, "pcie", inherits, [&](MapReader& section, Inheriting& own) {
    pcie.switches = own.integer("switches", parts_range, pcie.switches);
    pcie.switch_uplink = pcie.switches > 0 && !has_layout
                             ? own.rate("switch_uplink", pcie.switch_uplink)
                             : section.bytes_per_second("switch_uplink", pcie.switch_uplink);
    pcie.gpu_slot = section.bytes_per_second("gpu_slot", pcie.gpu_slot);
    pcie.nic_slot = section.bytes_per_second("nic_slot", pcie.nic_slot);
    pcie.latency = own.seconds("latency", pcie.latency);
  });
  constexpr std::array accesses{PeerAccess::everywhere, PeerAccess::same_switch, PeerAccess::never};
  pcie.peer_access = accesses[node.choice("pcie_p2p", {"true", "same_switch", "false"},
                                          index_of(accesses, pcie.peer_access))];
}

void read_c2c(MapReader& node, bool inherits, C2cSpec& c2c) {
  read_section(node, "c2c", inherits, [&](MapReader&, Inheriting& own) {
    c2c.bandwidth = own.rate("bandwidth", c2c.bandwidth);
    c2c.latency = own.seconds("latency", c2c.latency);
  });
}

void read_nics(MapReader& node, bool inherits, NicSpec& nics) {
  const bool has_layout = node.has("layout");  // which may give every NIC its own rate
  read_section(node, "nics", inherits, [&](MapReader& section, Inheriting& own) {
    nics.count = own.integer("count", parts_range, nics.count);
    nics.gpudirect = section.boolean("gpudirect", nics.gpudirect);
    if (nics.count == 0) {
      nics.bandwidth = {};
    } else if (has_layout) {
      nics.bandwidth = section.bytes_per_second("rate", nics.bandwidth);
    } else {
      nics.bandwidth = own.rate("rate", nics.bandwidth);
    }
  });
}

}  // namespace

void record_problems(const std::vector<SpecProblem>& problems, MapReader& reader) {
  for (const SpecProblem& problem : problems) {
    reader.diagnostics().error(reader.place(problem.key), problem.code, problem.message,
                               problem.help);
  }
}

std::optional<NodeSpec> read_node(const YamlValue& map, FileStack& files) {
  Diagnostics& diagnostics = files.diagnostics();
  const std::size_t mistakes = diagnostics.all().size();
  MapReader reader(map, "node", diagnostics);
  const std::optional<NodeSpec> included =
      read_include<NodeSpec>(reader, FileKind::node, files, read_node);
  const bool inherits = reader.has("include");
  NodeSpec node = included.value_or(NodeSpec{});
  node.name = reader.text("name", inherits ? node.name : "unnamed");
  node.title = reader.text("title", inherits ? node.title : node.name);
  if (const auto device = inherits ? reader.child("device") : reader.require("device")) {
    const auto read = read_named_or_inline<Device>(*device, FileKind::device, files, read_device);
    node.device = read.value_or(Device{});
  }
  node.gpus = Inheriting(reader, inherits).integer("gpus", gpus_range, node.gpus);
  read_nvlink(reader, inherits && node.nvlink.wiring != NvlinkWiring::none, node.nvlink);
  read_host(reader, inherits, node.host);
  read_pcie(reader, inherits, node.pcie);
  read_c2c(reader, inherits && node.c2c.bandwidth > BytesPerSecond{}, node.c2c);
  read_nics(reader, inherits && node.nics.count > 0, node.nics);
  if (const auto layout = reader.child("layout")) {
    node.layout = read_layout(*layout, diagnostics);
  }
  reader.finish();
  if (diagnostics.all().size() == mistakes) {
    record_problems(find_problems(node), reader);
  }
  return diagnostics.all().size() == mistakes ? std::optional(node) : std::nullopt;
}

}  // namespace longhaul
