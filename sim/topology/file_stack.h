// Files that include one another: opens topologies by name or path, remembers which are open (so
// that a circle is noticed) and which were read (for the origins of a result). Private to
// sim/topology.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sim/input/diagnostic.h"
#include "sim/input/yaml.h"

namespace longhaul {

/// What a file describes; presets of each kind live in a folder of topologies/.
enum class FileKind { device, node, fabric, cluster };

/// Names of the presets of a kind, sorted.
std::vector<std::string> preset_names(FileKind kind);

class FileStack {
 public:
  explicit FileStack(Diagnostics& diagnostics) : diagnostics_(diagnostics) {}

  [[nodiscard]] Diagnostics& diagnostics() { return diagnostics_; }
  /// "path sha256" of every file read, in the order of reading, each once.
  [[nodiscard]] const std::vector<std::string>& origins() const { return origins_; }

  /// Opens what `name_or_path`, written at `place`, names: a preset, or a file relative to the file
  /// that names it. Records what is wrong: unknown names (with a suggestion), unreadable files,
  /// files that include themselves. Each successful open() is undone by close().
  std::optional<YamlValue> open(FileKind kind, const std::string& name_or_path, const Place& place);
  void close();

 private:
  std::optional<SourcePtr> find(FileKind kind, const std::string& name_or_path, const Place& place);
  [[nodiscard]] bool is_open(const std::string& name, const Place& place);

  Diagnostics& diagnostics_;
  std::vector<std::string> origins_;
  std::vector<std::string> open_;  ///< source names, outermost first
};

}  // namespace longhaul
