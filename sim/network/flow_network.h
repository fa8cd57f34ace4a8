// Max-min fair sharing of directed links among flows, exact and incremental.
// Knows links, routes and bytes; knows no programs and no collectives. See docs/models/network.md.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sim/network/finish_queue.h"
#include "sim/network/latency_queue.h"
#include "sim/network/link_table.h"
#include "sim/units/id.h"
#include "sim/units/quantity.h"
#include "sim/units/sim_time.h"

namespace longhaul {

/// A transfer of `bytes` over `links` (distinct). It uses no bandwidth for `latency` after its
/// start, then gets its max-min fair share, never more than `rate_cap`, until its bytes are served.
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
/// solved once, and only flows whose share changes are touched. Deterministic. Rates are multiples
/// of a fixed quantum (2^-51 of the fattest link, or finer), so that sums of rates are exact and do
/// not depend on their order; remaining bytes depend only on spans since the flow's start. A
/// shifted copy of a workload therefore gives a bitwise shifted result.
class FlowNetwork {
 public:
  /// `capacities[i]` is the usable bandwidth of LinkId(i); 1e18 B/s and more: never a limit.
  explicit FlowNetwork(const std::vector<BytesPerSecond>& capacities);

  /// Starts a flow at `now` (>= every earlier call's time). A flow of zero bytes completes after
  /// its latency; a flow over no links and without cap completes after its latency.
  FlowId start(const FlowSpec& spec, SimTime now);

  /// The instant of the next change inside the network (a latency ends or a flow completes);
  /// SimTime::infinity() when nothing is in progress.
  [[nodiscard]] SimTime next_event();

  /// Moves to `now` (<= next_event()) and appends the flows that completed exactly then. Their
  /// order is determined by the history, not by their ids.
  void advance(SimTime now, std::vector<FlowId>& completed);

  /// Flow ids are reused after completion. Rate of an active flow (zero while in latency).
  [[nodiscard]] BytesPerSecond rate(FlowId flow);
  /// Bytes of the flows that have begun to move, by link (for link use).
  [[nodiscard]] std::span<const double> bytes_by_link() const { return links_.carried(); }
  /// How often rates were solved, and how many rates those solves looked at.
  [[nodiscard]] std::int64_t solves() const { return solves_; }
  [[nodiscard]] std::int64_t rates_solved() const { return rates_solved_; }

  /// Appends what determines one flow's future, relative to `now`, as integers (phase, ticks of
  /// latency left, bit patterns of remaining bytes and rate). Equal states evolve equally.
  void append_state(FlowId flow, SimTime now, std::vector<std::uint64_t>& state) const;
  /// Shifts all pending instants by `span` and adds `periods` times (bytes_by_link - earlier)
  /// to the link statistics: the network's part of skipping repeated periods.
  void skip(SimTime span, std::int64_t periods, std::span<const double> earlier_bytes_by_link);

 private:
  enum class Phase : std::uint8_t { unused, latency, moving };
  static constexpr std::uint32_t none = UINT32_MAX;

  // Rates are bytes per tick: bytes per second scaled by a power of two, which is exact.
  struct Flow {
    double left = 0.0;  // bytes, at `settled`
    double rate = 0.0;
    double cap = 0.0;
    std::int64_t settled = 0;          // ticks
    std::int64_t event = 0;            // ticks: latency ends, or completion at the present rate
    std::uint32_t ruler = none;        // the link that keeps its rate down; none: its cap
    std::uint32_t round = 0;           // the solve that last looked at it
    std::uint32_t member = 0;          // its place in set_ in that solve
    std::uint32_t shared = 0;          // bit i: its crossing i is of a link that others cross, too
    std::uint32_t bound_ruler = none;  // what sets `bound`; none: its cap
    double bound = 0.0;                // by its cap and the links it has for itself
    std::uint16_t crossings = 0;
    Phase phase = Phase::unused;
    bool bound_known = false;  // `shared`, `bound`, `bound_ruler` hold
  };

  // A flow whose rate is being solved. Its shares are shares_[first_share, + share_count).
  struct Member {
    std::uint32_t flow;
    std::uint32_t first_share;
    std::uint32_t share_count;
    std::uint32_t bound_ruler;
    std::uint32_t ruler;
    double bound;  // by its cap and the links it has for itself
    double rate;   // < 0: not yet fixed
  };

  // A member on a link that it shares with others.
  struct Share {
    std::uint32_t touched;
    std::uint32_t member;
    std::uint32_t next;  // share on the same link; none: the last
    double weight;
  };

  // A shared link crossed by members.
  struct Touched {
    std::uint32_t link;
    std::uint32_t members;      // how many of its flows are members
    std::uint32_t first_share;  // of its members
    double free;                // capacity less the rates of flows that are no members
    double open;                // members, by weight
    double left;                // while filling: free, less rates fixed so far
    double count;               // while filling: members not yet fixed, by weight
    double key;                 // while filling: its level when last looked at
    double top;                 // the greatest rate of a member
    double level;               // the rate of members that this link rules; < 0: it rules none
  };

  struct Level {
    double level;
    std::uint32_t touched;
    bool operator>(const Level& other) const {
      return level != other.level ? level > other.level : touched > other.touched;
    }
  };

  [[nodiscard]] std::span<Crossing> crossings_of(std::uint32_t flow) {
    return {crossings_.data() + std::size_t{flow} * stride_, flows_[flow].crossings};
  }
  void make_room(std::size_t links);
  void set_crossings(std::uint32_t index, const FlowSpec& spec);
  void end_latency(std::uint32_t index, std::vector<FlowId>& completed);
  void enter(std::uint32_t index);
  void leave(std::uint32_t index);
  void mark_changed(std::uint32_t link);
  // solve.cpp
  void solve();
  void find_bound(std::uint32_t index);
  void include(std::uint32_t index);
  void include_ruled(std::uint32_t link);
  void share(const Crossing& crossing, double rate);
  void fill();
  void fill_few();
  void fill_many();
  void fill_tightest(Touched& touched);
  void fix(Member& member, double rate, std::uint32_t ruler);
  bool widen();
  void widen_at(Touched touched);
  void include_faster(std::uint32_t link, double level);
  void apply();
  void set_rate(std::uint32_t index, double rate);
  [[nodiscard]] double quantised(double rate) const;

  LinkTable links_;
  double quantum_ = 0.0;
  double rounder_ = 0.0;  // adding and subtracting it rounds to multiples of the quantum
  std::vector<Flow> flows_;
  std::vector<Crossing> crossings_;  // stride_ places for each flow
  std::size_t stride_ = 4;
  std::vector<std::uint32_t> free_;
  LatencyQueue latencies_;
  FinishQueue finishes_;
  std::vector<std::uint32_t> fresh_;    // flows that move since the last solve
  std::vector<std::uint32_t> changed_;  // links whose ruled flows must be looked at
  std::vector<std::uint32_t> batch_;
  std::vector<Member> set_;
  std::vector<Share> shares_;
  std::vector<Touched> touched_;
  std::vector<Level> levels_;
  std::uint32_t round_ = 0;
  std::int64_t now_ = 0;
  std::int64_t solves_ = 0;
  std::int64_t rates_solved_ = 0;
};

}  // namespace longhaul
