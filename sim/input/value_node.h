// The tree behind YamlValue, shared by the YAML and the JSON parser. Private to sim/input.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sim/input/diagnostic.h"
#include "sim/input/yaml.h"

namespace longhaul {

struct YamlValue::Node {
  enum class Kind { null, scalar, sequence, map };
  using Pointer = std::shared_ptr<Node>;

  Kind kind = Kind::null;
  std::string text;     ///< of a scalar
  bool quoted = false;  ///< of a scalar
  Place place;
  std::optional<Place> key_place;
  std::vector<Pointer> items;
  std::vector<std::pair<std::string, Pointer>> entries;
};

/// Nesting beyond this is refused: no format of ours needs a tenth of it.
inline constexpr std::size_t nesting_limit = 64;

/// Puts parser events together into a tree and records what neither format's own parser refuses:
/// repeated keys, keys that are no words, merge keys, too deep nesting.
class TreeBuilder {
 public:
  using Node = YamlValue::Node;
  explicit TreeBuilder(Diagnostics& diagnostics) : diagnostics_(diagnostics) {}

  void add_null(const Place& place);
  void add_scalar(const Place& place, std::string text, bool quoted);
  /// False if nesting is too deep (recorded); the caller must stop.
  [[nodiscard]] bool open(const Place& place, Node::Kind kind);
  void close();
  /// Adds a node again, in another place (a YAML alias).
  void add_copy(const Place& place, const Node& node);

  /// The document; empty if nothing was added.
  [[nodiscard]] const Node::Pointer& root() const { return root_; }
  /// The node most recently opened or added.
  [[nodiscard]] const Node::Pointer& newest() const { return newest_; }

 private:
  struct Level {
    Node::Pointer node;
    std::optional<std::string> key;  ///< a key that waits for its value
    Place key_place;
    bool skip = false;  ///< the waiting key was refused: its value is dropped
  };
  void attach(const Node::Pointer& node);
  void take_key(Level& level, const Node& node);
  void take_value(Level& level, const Node::Pointer& node);

  Diagnostics& diagnostics_;
  std::vector<Level> levels_;
  Node::Pointer root_;
  Node::Pointer newest_;
};

}  // namespace longhaul
