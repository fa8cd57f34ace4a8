// A cluster as YAML that reads back as the same specification.
#include <fmt/format.h>

#include <array>
#include <optional>

#include "sim/topology/import.h"
#include "sim/units/format.h"
#include "sim/units/parse.h"

namespace longhaul {

namespace {

/// The shortest number that, with this unit, reads back as exactly this value; nothing if none
/// does.
template <class T>
std::optional<std::string> exact(double number, const char* unit, T value,
                                 Parsed<T> (*parse)(std::string_view)) {
  for (int digits = 1; digits <= 17; ++digits) {
    // Through double again: 1e+02 becomes 100.
    const Parsed<double> rounded = parse_number(fmt::format("{:.{}e}", number, digits - 1));
    const std::string text = fmt::format("{} {}", format_number(rounded.value), unit);
    const Parsed<T> back = parse(text);
    if (back.ok() && back.value == value) {
      return text;
    }
  }
  return std::nullopt;
}

std::string exact_rate(BytesPerSecond rate) {
  return exact(rate.value() / 1e9, "GB/s", rate, parse_bytes_per_second)
      .value_or(format_number(rate.value()) + " B/s");
}

std::string exact_time(Seconds time) {
  return exact(time.value() * 1e6, "us", time, parse_seconds)
      .value_or(format_number(time.value()) + " s");
}

/// A YAML string that is always taken for a string.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
    }
    out += c;
  }
  return out + "\"";
}

/// A name that needs no quotes keeps none.
std::string word(const std::string& text) {
  const bool plain = !text.empty() && text.find_first_not_of(
                                          "abcdefghijklmnopqrstuvwxyz"
                                          "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                          "0123456789_./-") == text.npos;
  const bool number = parse_integer(text).ok();
  const bool letter = plain && ((text[0] >= 'a' && text[0] <= 'z') ||
                                (text[0] >= 'A' && text[0] <= 'Z') || text[0] == '/');
  return letter && !number && text != "true" && text != "false" && text != "null" &&
                 text != "yes" && text != "no"
             ? text
             : quoted(text);
}

/// A comment ends with its line, whatever a file's name may hold.
std::string one_line(std::string text) {
  for (char& c : text) {
    const auto code = static_cast<unsigned char>(c);
    c = code < ' ' || code == 0x7f ? '?' : c;
  }
  return text;
}

class Writer {
 public:
  explicit Writer(const ImportedCluster& cluster) : cluster_(cluster), node_(cluster.spec.node) {}

  std::string write() {
    for (const std::string& line : cluster_.heading) {
      text_ += fmt::format("# {}\n", one_line(line));
    }
    line(0, "name", word(cluster_.spec.name), "name");
    if (cluster_.spec.nodes > 1) {
      line(0, "nodes", std::to_string(cluster_.spec.nodes), "nodes");
    }
    if (cluster_.spec.fabric.wiring == FabricWiring::none && node_.nics.count > 0) {
      text_ +=
          "# The fabric is not in the file. To use several nodes, name one:\n"
          "# fabric: infiniband-rails\n";
    }
    text_ += "node:\n";
    line(2, "name", word(node_.name), "node.name");
    line(2, "title", quoted(node_.title), "node.title");
    line(2, "device", word(cluster_.device), "node.device");
    line(2, "gpus", std::to_string(node_.gpus), "gpus");
    write_nvlink();
    write_host();
    write_pcie();
    write_nics();
    write_layout();
    return std::move(text_);
  }

 private:
  [[nodiscard]] std::string comment(const std::string& path) const {
    const auto note = cluster_.notes.find(path);
    return note == cluster_.notes.end() || note->second.empty() ? "" : "  # " + note->second;
  }
  void line(int indent, const std::string& key, const std::string& value, const std::string& path) {
    text_ += fmt::format("{:{}}{}: {}{}\n", "", indent, key, value, comment(path));
  }
  void open(const std::string& key) { text_ += fmt::format("  {}:{}\n", key, comment(key)); }

  void write_nvlink() {
    constexpr std::array words{"none", "switch", "mesh", "pairs", "listed"};
    const NvlinkSpec& nvlink = node_.nvlink;
    open("nvlink");
    line(4, "wiring", words.at(static_cast<std::size_t>(nvlink.wiring)), "nvlink.wiring");
    if (nvlink.wiring == NvlinkWiring::none) {
      return;
    }
    line(4, "latency", exact_time(nvlink.latency), "nvlink.latency");
    if (nvlink.wiring == NvlinkWiring::mesh) {
      line(4, "links_per_pair", std::to_string(nvlink.links_per_pair), "nvlink.links_per_pair");
    }
    if (nvlink.wiring == NvlinkWiring::switched && nvlink.links_per_gpu > 0) {
      line(4, "links_per_gpu", std::to_string(nvlink.links_per_gpu), "nvlink.links_per_gpu");
    }
    if (nvlink.wiring == NvlinkWiring::switched && nvlink.domain_nodes > 1) {
      line(4, "domain_nodes", std::to_string(nvlink.domain_nodes), "nvlink.domain_nodes");
    }
    if (nvlink.wiring == NvlinkWiring::listed) {
      text_ += "    pairs:\n";
      for (const NvlinkPair& pair : nvlink.listed) {
        text_ += fmt::format("      - {{gpus: [{}, {}], links: {}}}\n", pair.a, pair.b, pair.links);
      }
    }
  }

  void write_host() {
    const HostSpec& host = node_.host;
    open("host");
    line(4, "sockets", std::to_string(host.sockets), "host.sockets");
    if (host.cores > 0) {
      line(4, "cores", std::to_string(host.cores), "host.cores");
    }
    if (host.memory.value() > 0.0) {
      line(4, "memory", fmt::format("{:.0f} B", host.memory.value()), "host.memory");
    }
    line(4, "memory_bandwidth", exact_rate(host.memory_bandwidth), "host.memory_bandwidth");
    line(4, "memory_latency", exact_time(host.memory_latency), "host.memory_latency");
    if (host.speed != 1.0) {
      line(4, "speed", fmt::format("{}", host.speed), "host.speed");
    }
    if (host.sockets > 1) {
      line(4, "bus_bandwidth", exact_rate(host.bus_bandwidth), "host.bus_bandwidth");
      line(4, "bus_latency", exact_time(host.bus_latency), "host.bus_latency");
    }
    if (node_.c2c.bandwidth > BytesPerSecond{}) {
      open("c2c");
      line(4, "bandwidth", exact_rate(node_.c2c.bandwidth), "c2c.bandwidth");
      line(4, "latency", exact_time(node_.c2c.latency), "c2c.latency");
    }
  }

  void write_pcie() {
    const PcieSpec& pcie = node_.pcie;
    constexpr std::array words{"true", "same_switch", "false"};
    line(2, "pcie_p2p", words.at(static_cast<std::size_t>(pcie.peer_access)), "pcie_p2p");
    open("pcie");
    line(4, "switches", std::to_string(pcie.switches), "pcie.switches");
    rate_line(4, "switch_uplink", pcie.switch_uplink, "pcie.switch_uplink");
    rate_line(4, "gpu_slot", pcie.gpu_slot, "pcie.gpu_slot");
    rate_line(4, "nic_slot", pcie.nic_slot, "pcie.nic_slot");
    line(4, "latency", exact_time(pcie.latency), "pcie.latency");
  }

  /// Left out where it is zero: each part has its own then, or the device's.
  void rate_line(int indent, const std::string& key, BytesPerSecond rate, const std::string& path) {
    if (rate > BytesPerSecond{}) {
      line(indent, key, exact_rate(rate), path);
    }
  }

  void write_nics() {
    open("nics");
    line(4, "count", std::to_string(node_.nics.count), "nics.count");
    if (node_.nics.count > 0) {
      rate_line(4, "rate", node_.nics.bandwidth, "nics.rate");
      if (!node_.nics.gpudirect) {
        line(4, "gpudirect", "false", "nics.gpudirect");
      }
    }
  }

  void write_layout() {
    if (!node_.layout) {
      return;
    }
    open("layout");
    list("switches", node_.layout->switches, [](const SwitchPlace& place) {
      return rates({{"uplink", place.uplink}});
    });
    list("gpus", node_.layout->gpus, [](const GpuPlace& place) {
      return rates({{"slot", place.slot}});
    });
    list("nics", node_.layout->nics, [](const NicPlace& place) {
      return (place.name.empty() ? "" : ", name: " + word(place.name)) +
             rates({{"rate", place.rate}, {"slot", place.slot}}) +
             (place.storage ? ", storage: true" : "");
    });
  }

  static std::string rates(const std::vector<std::pair<const char*, BytesPerSecond>>& given) {
    std::string text;
    for (const auto& [key, rate] : given) {
      if (rate > BytesPerSecond{}) {
        text += fmt::format(", {}: {}", key, exact_rate(rate));
      }
    }
    return text;
  }

  /// A part that has nothing but its place is written as that word alone.
  template <class Place, class More>
  void list(const std::string& key, const std::vector<Place>& places, More more) {
    if (places.empty()) {
      return;
    }
    const std::string path = "layout." + key;
    text_ += fmt::format("    {}:{}\n", key, comment(path));
    for (std::size_t i = 0; i < places.size(); ++i) {
      const std::string rest = more(places[i]);
      const std::string seat = format_seat(places[i].seat);
      text_ += fmt::format("      - {}{}\n",
                           rest.empty() ? seat : fmt::format("{{on: {}{}}}", seat, rest),
                           comment(fmt::format("{}.{}", path, i)));
    }
  }

  const ImportedCluster& cluster_;
  const NodeSpec& node_;
  std::string text_;
};

}  // namespace

std::string write_cluster(const ImportedCluster& cluster) { return Writer(cluster).write(); }

}  // namespace longhaul
