// Devices, nodes and clusters from maps; what read_cluster.h offers is put together from these.
// Private to sim/topology. All record every mistake and return nothing if there was an error.
#pragma once

#include <optional>
#include <string>

#include "sim/input/yaml.h"
#include "sim/topology/cluster_spec.h"
#include "sim/topology/device.h"
#include "sim/topology/file_stack.h"

namespace longhaul {

/// The value of a key that names a preset or a file, or is the map itself, is read by `read`.
template <class T>
std::optional<T> read_named_or_inline(const YamlValue& value, FileKind kind, FileStack& files,
                                      std::optional<T> (*read)(const YamlValue&, FileStack&)) {
  if (!value.is_scalar()) {
    return read(value, files);
  }
  const std::optional<YamlValue> map = files.open(kind, value.scalar(), value.place());
  if (!map) {
    return std::nullopt;
  }
  std::optional<T> result = read(*map, files);
  files.close();
  return result;
}

/// What an `include` key brings in, for the map's own keys to override. Nothing without the key.
template <class T>
std::optional<T> read_include(MapReader& reader, FileKind kind, FileStack& files,
                              std::optional<T> (*read)(const YamlValue&, FileStack&)) {
  const std::optional<YamlValue> value = reader.child("include");
  if (!value) {
    return std::nullopt;
  }
  if (!value->is_scalar()) {
    reader.diagnostics().error(value->place(), "wrong-type",
                               "'include' wants the name of a preset or a path");
    return std::nullopt;
  }
  return read_named_or_inline<T>(*value, kind, files, read);
}

/// Reads keys that are demanded unless an included file has given their value already.
class Inheriting {
 public:
  Inheriting(MapReader& reader, bool inherits) : reader_(reader), inherits_(inherits) {}

  std::string text(const std::string& key, const std::string& inherited) {
    return inherits_ ? reader_.text(key, inherited) : reader_.text(key);
  }
  int integer(const std::string& key, IntegerRange range, int inherited) {
    return static_cast<int>(inherits_ ? reader_.integer(key, range, inherited)
                                      : reader_.integer(key, range));
  }
  double number(const std::string& key, double low, double high, double inherited) {
    return inherits_ ? reader_.number(key, low, high, inherited) : reader_.number(key, low, high);
  }
  Seconds seconds(const std::string& key, Seconds inherited) {
    return inherits_ ? reader_.seconds(key, inherited) : reader_.seconds(key);
  }
  BytesPerSecond rate(const std::string& key, BytesPerSecond inherited) {
    return inherits_ ? reader_.bytes_per_second(key, inherited) : reader_.bytes_per_second(key);
  }
  std::size_t choice(const std::string& key, const std::vector<std::string>& words,
                     std::size_t inherited) {
    return inherits_ ? reader_.choice(key, words, inherited) : reader_.choice(key, words);
  }

 private:
  MapReader& reader_;
  bool inherits_;
};

std::optional<Device> read_device(const YamlValue& map, FileStack& files);
std::optional<NodeSpec> read_node(const YamlValue& map, FileStack& files);
/// The map of `layout`; what it says is judged by find_problems().
Layout read_layout(const YamlValue& map, Diagnostics& diagnostics);
std::optional<FabricSpec> read_fabric(const YamlValue& map, FileStack& files);

/// The preset node that a device usually sits in, with this device in it: for users who name a GPU
/// and not a server. `nvlink`: joined by NVLink (NVSwitch or mesh) rather than by PCIe alone.
std::optional<NodeSpec> find_usual_node(const Device& device, bool nvlink, FileStack& files,
                                        const Place& place);
/// The node with `gpus` GPUs instead of its own number: as many to a switch as before where that
/// comes out even, else on the sockets; one NIC per GPU at most.
NodeSpec resized(NodeSpec node, int gpus);

/// Records the problems of a specification at the keys of `reader` that say them.
void record_problems(const std::vector<SpecProblem>& problems, MapReader& reader);

}  // namespace longhaul
