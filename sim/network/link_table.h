// Links as the solver sees them: who crosses each, and what is known about their rates.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace longhaul {

/// One flow on one link.
struct Crossing {
  std::uint32_t link = 0;
  std::uint32_t place = 0;  ///< in the link's list of flows
  double weight = 1.0;      ///< flows that this one stands for on this link
};

/// Where a link finds one of its flows: crossing `crossing` of flow `flow`.
struct Visitor {
  std::uint32_t flow;
  std::uint32_t crossing;
};

/// State of one link. `load`, `ceiling` hold while two flows or more cross it; a link with a single
/// flow is only a bound on that flow.
struct LinkState {
  double capacity = 0.0;      ///< bytes per tick
  double load = 0.0;          ///< sum of weight x rate
  double ceiling = 0.0;       ///< no flow on it is faster
  double level = 0.0;         ///< rate of the flows that it rules, if there are any
  Visitor few[2] = {};        ///< its flows, up to two
  std::uint32_t size = 0;     ///< flows on it
  std::uint32_t block = 0;    ///< its flows, if more: an index of LinkTable's blocks
  std::uint32_t ruled = 0;    ///< flows whose ruler it is
  std::uint32_t round = 0;    ///< the solve that last touched it
  std::uint32_t touched = 0;  ///< its place among the touched links of that solve
  bool changed = false;
};

/// All links of a network, with their lists of flows.
class LinkTable {
 public:
  explicit LinkTable(std::size_t count) : links_(count), carried_(count, 0.0) {}
  [[nodiscard]] std::size_t size() const { return links_.size(); }
  LinkState& operator[](std::uint32_t link) { return links_[link]; }
  const LinkState& operator[](std::uint32_t link) const { return links_[link]; }
  [[nodiscard]] std::span<const Visitor> visitors(const LinkState& link) const {
    return {link.size <= 2 ? link.few : blocks_[link.block].data(), link.size};
  }
  /// Adds a flow; returns its place in the list.
  std::uint32_t add(LinkState& link, Visitor visitor);
  /// Removes the flow at `place`; returns the visitor that took its place, if one did.
  const Visitor* remove(LinkState& link, std::uint32_t place);
  [[nodiscard]] std::span<double> carried() { return carried_; }
  [[nodiscard]] std::span<const double> carried() const { return carried_; }

 private:
  std::vector<LinkState> links_;
  std::vector<double> carried_;  // bytes
  std::vector<std::vector<Visitor>> blocks_;
  std::vector<std::uint32_t> free_blocks_;
};

}  // namespace longhaul
