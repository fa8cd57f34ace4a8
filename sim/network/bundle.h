// Flows alike, and bundles of them: what FlowNetwork keeps of transfers in progress.
#pragma once

#include <cstdint>

namespace longhaul {

/// Bytes served, in quanta of rate times ticks: exact for any run.
__extension__ using ServedUnits = __int128;

/// Bytes per second: never a limit.
constexpr double unlimited_bandwidth = 1e18;

enum class FlowPhase : std::uint8_t { unused, latency, moving };

/// One flow. While it moves, `mark` is how much its bundle will have served when it ends.
struct FlowState {
  static constexpr std::uint32_t none = UINT32_MAX;
  ServedUnits mark = 0;  ///< in latency: what it has to move
  double bytes = 0.0;
  double cap = 0.0;        ///< bytes per tick
  std::int64_t event = 0;  ///< ticks: its latency ends
  std::uint32_t bundle = none;
  std::uint32_t next = none;  ///< in the bundle, by mark
  std::uint32_t previous = none;
  std::uint16_t crossings = 0;
  FlowPhase phase = FlowPhase::unused;
  bool reshaping = false;  ///< one of its links is shared from now on
  bool owner = false;      ///< it has a link for itself
};

/// Flows that cross the same shared links with the same weights, and that are bounded alike by
/// their caps and the links they own: they have one rate, for whatever happens to one happens to
/// all.
struct BundleState {
  static constexpr std::uint32_t none = UINT32_MAX;
  ServedUnits served = 0;       ///< to each of its flows since the bundle began, at `settled`
  std::int64_t settled = 0;     ///< ticks
  std::int64_t rate_units = 0;  ///< quanta per tick
  double rate = 0.0;            ///< bytes per tick
  double bound = 0.0;           ///< by caps and owned links
  std::uint32_t first = none;   ///< flow that ends first
  std::uint32_t last = none;
  std::uint32_t flows = 0;
  std::uint32_t rated = 0;      ///< flows counted in the loads of its links
  std::uint32_t ruler = none;   ///< the link that keeps its rate down; none: its bound
  std::uint32_t round = 0;      ///< the solve that last looked at it
  std::uint32_t crossings = 0;  ///< shared links
  bool fresh = false;           ///< flows have joined since the last solve
};

}  // namespace longhaul
