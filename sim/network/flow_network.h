// Max-min fair sharing of directed links among flows, by progressive filling.
// Knows links, routes and bytes; knows no programs and no collectives.
#pragma once

#include <cstdint>
#include <queue>
#include <span>
#include <vector>

#include "sim/units/id.h"
#include "sim/units/quantity.h"
#include "sim/units/sim_time.h"

namespace longhaul {

/// A transfer of `bytes` over `links`. It uses no bandwidth for `latency` after its start, then
/// gets its max-min fair share, never more than `rate_cap`, until its bytes are served.
///
/// A flow may stand for a class of identical flows, simulated once (a quotient by symmetry):
/// weights[i] is then how many flows of the class cross links[i], where links[i] stands for a class
/// of links that each carry that many. Rate, bytes and cap are those of one member. Empty: all 1.
struct FlowSpec {
  std::span<const LinkId> links;
  Bytes bytes;
  Seconds latency;
  BytesPerSecond rate_cap = BytesPerSecond::of(1e30);
  std::span<const std::uint32_t> weights = {};
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

 private:
  enum class Phase : std::uint8_t { unused, latency, moving };
  // One flow. Its links are links_[first_link .. first_link + link_count).
  struct Flow {
    double left = 0.0;  // bytes, at `settled`
    double rate = 0.0;  // bytes per second
    double cap = 0.0;
    double bytes = 0.0;
    SimTime settled;  // `left` holds at this instant
    SimTime event;    // latency ends, or completion at the present rate
    std::uint32_t generation = 0;
    Phase phase = Phase::unused;
    bool marked = false;  // in the set being solved
    std::vector<LinkId> links;
    std::vector<std::uint32_t> weights;  // by link
  };
  struct LinkState {
    double capacity = 0.0;
    double left = 0.0;          // while solving
    std::uint32_t unfixed = 0;  // while solving
    bool marked = false;
    bool changed = false;
    std::vector<std::uint32_t> flows;  // moving, in order of their start
  };
  struct Event {
    SimTime when;
    std::uint32_t flow = 0;
    std::uint32_t generation = 0;
    bool operator>(const Event& other) const {
      return when != other.when ? when > other.when : flow > other.flow;
    }
  };

  void touch(std::uint32_t link);
  void begin_moving(std::uint32_t index);
  void end_moving(std::uint32_t index);
  void solve();
  void gather_component();
  void fill_component();
  void set_rate(std::uint32_t index, double rate);
  void push_event(std::uint32_t index);

  std::vector<LinkState> links_;
  std::vector<double> bytes_by_link_;
  std::vector<Flow> flows_;
  std::vector<std::uint32_t> free_;
  std::vector<std::uint32_t> changed_;    // links whose flows changed since the last solve
  std::vector<std::uint32_t> new_flows_;  // flows without links that need a rate
  std::vector<std::uint32_t> component_flows_;
  std::vector<std::uint32_t> component_links_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  SimTime now_;
};

}  // namespace longhaul
