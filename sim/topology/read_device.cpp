// Devices from maps: every number a map of value, source and, if so, approximate.
#include <fmt/format.h>

#include "sim/topology/read_parts.h"

namespace longhaul {

namespace {

/// One number of a device. Its `source` is a key of the `sources` of the file (or any text in a
/// device that has none); what the number is, the caller reads from the key "value".
class Sourced {
 public:
  Sourced(MapReader& device, bool inherits) : device_(device), inherits_(inherits) {
    if (const std::optional<YamlValue> sources = device.child("sources")) {
      for (const auto& [key, text] : sources->entries()) {
        sources_.push_back(key);
      }
    }
  }

  /// `read` takes a MapReader over {value, source}. An absent key keeps `inherited`; it is an error
  /// if the number is demanded and nothing was included.
  template <class T, class Read>
  T get(const std::string& key, T inherited, bool demanded, Read read) {
    const std::optional<YamlValue> value =
        demanded && !inherits_ ? device_.require(key) : device_.child(key);
    if (!value) {
      return inherited;
    }
    if (!value->is_map()) {
      device_.diagnostics().error(value->place(), "no-source",
                                  fmt::format("'{}' does not say where it comes from", key),
                                  fmt::format("write '{}: {{value: ..., source: ...}}'", key));
      return inherited;
    }
    MapReader number(*value, fmt::format("'{}'", key), device_.diagnostics());
    const T result = read(number);
    check_source(number);
    number.boolean("approximate", false);
    number.finish();
    return result;
  }

 private:
  void check_source(MapReader& number) {
    const std::string source = number.text("source");
    if (!number.has("source") || sources_.empty() ||
        std::find(sources_.begin(), sources_.end(), source) != sources_.end()) {
      return;
    }
    device_.diagnostics().error(number.place("source"), "unknown-source",
                                fmt::format("'sources' has no '{}'", source),
                                fmt::format("it has {}", fmt::join(sources_, ", ")));
  }

  MapReader& device_;
  bool inherits_;
  std::vector<std::string> sources_;
};

constexpr IntegerRange count_range{1, 100000};

void read_rates(Sourced& sourced, Device& device) {
  const auto flops = [](MapReader& number) { return number.flops_per_second("value"); };
  const auto rate = [](MapReader& number) { return number.bytes_per_second("value"); };
  device.peak_bf16 = sourced.get("peak_bf16", device.peak_bf16, true, flops);
  device.peak_fp8 = sourced.get("peak_fp8", device.peak_fp8, false, flops);
  device.peak_fp32 = sourced.get("peak_fp32", device.peak_fp32, true, flops);
  device.memory_bandwidth = sourced.get("memory_bandwidth", device.memory_bandwidth, true, rate);
  device.nvlink_bandwidth = sourced.get("nvlink_bandwidth", device.nvlink_bandwidth, false, rate);
  device.pcie_bandwidth = sourced.get("pcie_bandwidth", device.pcie_bandwidth, true, rate);
}

void read_sizes(Sourced& sourced, Device& device) {
  const auto bytes = [](MapReader& number) { return number.bytes("value"); };
  const auto count = [](MapReader& number) {
    return static_cast<int>(number.integer("value", count_range));
  };
  device.sms = sourced.get("sms", device.sms, true, count);
  device.memory = sourced.get("memory", device.memory, true, bytes);
  device.l2_cache = sourced.get("l2_cache", device.l2_cache, true, bytes);
  device.nvlink_links = sourced.get("nvlink_links", device.nvlink_links, false, count);
}

}  // namespace

std::optional<Device> read_device(const YamlValue& map, FileStack& files) {
  Diagnostics& diagnostics = files.diagnostics();
  const std::size_t mistakes = diagnostics.all().size();
  MapReader reader(map, "device", diagnostics);
  const std::optional<Device> included =
      read_include<Device>(reader, FileKind::device, files, read_device);
  const bool inherits = reader.has("include");
  Device device = included.value_or(Device{});
  Inheriting own(reader, inherits);
  device.name = own.text("name", device.name);
  device.title = reader.text("title", inherits ? device.title : device.name);
  const std::vector<std::string> architectures{"volta", "ampere", "ada", "hopper", "blackwell"};
  const auto known = std::find(architectures.begin(), architectures.end(), device.architecture);
  const std::size_t inherited =
      known == architectures.end() ? 0 : static_cast<std::size_t>(known - architectures.begin());
  device.architecture = architectures[own.choice("architecture", architectures, inherited)];
  Sourced sourced(reader, inherits);
  device.boost_clock = sourced.get("boost_clock", device.boost_clock, true,
                                   [](MapReader& number) { return number.hertz("value"); });
  read_rates(sourced, device);
  read_sizes(sourced, device);
  if ((device.nvlink_links == 0) != (device.nvlink_bandwidth == BytesPerSecond{})) {
    diagnostics.error(map.place(), "missing-key",
                      "'nvlink_bandwidth' and 'nvlink_links' belong together",
                      "give both, or neither for a device without NVLink");
  }
  reader.finish();
  return diagnostics.all().size() == mistakes ? std::optional(device) : std::nullopt;
}

}  // namespace longhaul
