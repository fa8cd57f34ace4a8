// Links as the solver sees them: which bundles of flows share each, and what is known of their
// rates.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace longhaul {

/// One flow, or one bundle of flows, on one link.
struct Crossing {
  std::uint32_t link = 0;
  std::uint32_t place = 0;  ///< of a bundle: in the link's list
  double weight = 1.0;      ///< flows that one flow stands for on this link
};

/// Where a link finds one of its bundles: crossing `crossing` of bundle `bundle`. `sign` is the
/// same for bundles of one shape, and seldom for others.
struct Visitor {
  std::uint32_t bundle;
  std::uint32_t crossing;
  std::uint32_t sign;
};

/// State of one link. A link with a single flow is a bound on that flow and belongs to it
/// (`owner`). Once a second flow comes it is shared, until all have left. `load` and `ceiling` hold
/// while two bundles or more share it; a single bundle has a bound of it.
struct LinkState {
  static constexpr std::uint32_t nobody = UINT32_MAX;
  double capacity = 0.0;         ///< bytes per tick
  double load = 0.0;             ///< sum of weight x flows x rate of its bundles
  double ceiling = 0.0;          ///< no flow on it is faster
  double level = 0.0;            ///< rate of the bundles that it rules, if there are any
  Visitor few[2] = {};           ///< its bundles, while it has no block
  std::uint32_t size = 0;        ///< bundles on it
  std::uint32_t block = nobody;  ///< once there were more than two: an index of LinkTable's blocks
  std::uint32_t ruled = 0;       ///< bundles whose ruler it is
  std::uint32_t round = 0;       ///< the solve that last touched it
  std::uint32_t touched = 0;     ///< its place among the touched links of that solve
  std::uint32_t owner = nobody;  ///< the flow that has it for itself
  bool shared = false;
  bool changed = false;
};

/// All links of a network, with their lists of bundles.
class LinkTable {
 public:
  explicit LinkTable(std::size_t count) : links_(count), carried_(count, 0.0) {}
  [[nodiscard]] std::size_t size() const { return links_.size(); }
  LinkState& operator[](std::uint32_t link) { return links_[link]; }
  const LinkState& operator[](std::uint32_t link) const { return links_[link]; }
  [[nodiscard]] std::span<const Visitor> visitors(const LinkState& link) const {
    return {link.block == LinkState::nobody ? link.few : blocks_[link.block].data(), link.size};
  }
  /// The bundle of a link with a single one.
  [[nodiscard]] const Visitor& only(const LinkState& link) const {
    return link.block == LinkState::nobody ? link.few[0] : blocks_[link.block].front();
  }
  /// Adds a bundle; returns its place in the list.
  std::uint32_t add(LinkState& link, Visitor visitor);
  /// Removes the bundle at `place`; returns the visitor that took its place, if one did.
  const Visitor* remove(LinkState& link, std::uint32_t place);
  [[nodiscard]] std::span<double> carried() { return carried_; }
  [[nodiscard]] std::span<const double> carried() const { return carried_; }

 private:
  void take_block(LinkState& link);
  std::vector<LinkState> links_;
  std::vector<double> carried_;  // bytes
  std::vector<std::vector<Visitor>> blocks_;
  std::vector<std::uint32_t> free_blocks_;
};

}  // namespace longhaul
