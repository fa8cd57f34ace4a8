// Max-min fair sharing of directed links among flows, by progressive filling.
// Knows links, routes and bytes; knows no programs and no collectives.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sim/units/id.h"
#include "sim/units/quantity.h"
#include "sim/units/sim_time.h"

namespace longhaul {

/// A transfer of `bytes` over `links`. It uses no bandwidth for `latency` after its start, then
/// gets its max-min fair share, never more than `rate_cap`, until its bytes are served.
struct FlowSpec {
  std::span<const LinkId> links;
  Bytes bytes;
  Seconds latency;
  BytesPerSecond rate_cap = BytesPerSecond::of(1e30);
};

/// Flows in progress on a set of links. All changes of one instant are applied before rates are
/// solved once. Deterministic: ties are broken by flow id; remaining bytes depend only on spans
/// since the flow's start, so a shifted copy of a workload gives a bitwise shifted result.
class FlowNetwork {
 public:
  /// `capacities[i]` is the usable bandwidth of LinkId(i).
  explicit FlowNetwork(std::vector<BytesPerSecond> capacities);

  /// Starts a flow at `now` (>= every earlier call's time). A flow of zero bytes completes after
  /// its latency; a flow over no links and without cap completes after its latency.
  FlowId start(const FlowSpec& spec, SimTime now);

  /// The instant of the next change inside the network (a latency ends or a flow completes);
  /// SimTime::infinity() when nothing is in progress.
  [[nodiscard]] SimTime next_event();

  /// Moves to `now` (<= next_event()) and appends the flows that completed exactly then, by id.
  void advance(SimTime now, std::vector<FlowId>& completed);

  /// Flow ids are reused after completion. Rate of an active flow (zero while in latency).
  [[nodiscard]] BytesPerSecond rate(FlowId flow);
  /// Bytes served over each link so far (for link use).
  [[nodiscard]] std::span<const double> bytes_by_link() const;

  /// Appends what determines one flow's future, relative to `now`, as integers (phase, ticks of
  /// latency left, bit patterns of remaining bytes and rate). Equal states evolve equally.
  void append_state(FlowId flow, SimTime now, std::vector<std::uint64_t>& state) const;
  /// Shifts all pending instants by `span` and adds `periods` times (bytes_by_link - earlier)
  /// to the link statistics: the network's part of skipping repeated periods.
  void skip(SimTime span, std::int64_t periods, std::span<const double> earlier_bytes_by_link);
};

}  // namespace longhaul
