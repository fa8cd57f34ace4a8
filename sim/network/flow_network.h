// Max-min fair sharing of directed links among flows, exact and incremental.
// Knows links, routes and bytes; knows no programs and no collectives. See docs/models/network.md.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sim/network/bundle.h"
#include "sim/network/finish_queue.h"
#include "sim/network/latency_queue.h"
#include "sim/network/link_table.h"
#include "sim/network/stack.h"
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
/// solved once, and only flows whose share changes are touched. Flows that share the same links are
/// one bundle with a multiplicity, whose rate is found and changed once for all. Deterministic.
/// Rates are multiples of a fixed quantum (2^-51 of the fattest link, or finer) and bytes served
/// are integers, so that sums are exact and depend neither on their order nor on how often a rate
/// changed: a shifted copy of a workload gives a bitwise shifted result.
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
  /// How often rates were solved, and how many rates (of bundles) those solves looked at.
  [[nodiscard]] std::int64_t solves() const { return solves_; }
  [[nodiscard]] std::int64_t rates_solved() const { return rates_solved_; }

  /// Appends what determines one flow's future, relative to `now`, as integers: phase, ticks of
  /// latency or units of bytes left, bit pattern of the rate. Equal states evolve equally.
  void append_state(FlowId flow, SimTime now, std::vector<std::uint64_t>& state) const;
  /// Shifts all pending instants by `span` and adds `periods` times (bytes_by_link - earlier)
  /// to the link statistics: the network's part of skipping repeated periods.
  void skip(SimTime span, std::int64_t periods, std::span<const double> earlier_bytes_by_link);

 private:
  static constexpr std::uint32_t none = UINT32_MAX;

  // A bundle whose rate is being solved. Its shares are shares_[first_share, + share_count).
  struct Member {
    std::uint32_t bundle;
    std::uint32_t first_share;
    std::uint32_t share_count;
    std::uint32_t own_ruler;  // of own_bound
    std::uint32_t ruler;      // of `bound`, then of its rate
    double own_bound;         // by caps, owned links and links that no other bundle crosses
    double bound;             // while filling: by links that no other member crosses, too
    double rate;              // < 0: not yet fixed
  };

  // A member on a link that it shares with other bundles.
  struct Share {
    std::uint32_t touched;
    std::uint32_t member;
    std::uint32_t next;  // share on the same link; none: the last
    double weight;       // of all its flows
  };

  // A shared link crossed by members.
  struct Touched {
    std::uint32_t link;
    std::uint32_t members;      // how many of its bundles are members
    std::uint32_t first_share;  // of its members
    double free;                // capacity less the rates of bundles that are no members
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

  // flow_network.cpp
  [[nodiscard]] std::span<Crossing> crossings_of(std::uint32_t flow) {
    return {crossings_.data() + std::size_t{flow} * stride_, flows_[flow].crossings};
  }
  void make_room(std::size_t links);
  void set_crossings(std::uint32_t index, const FlowSpec& spec);
  std::uint32_t take_flow();
  [[nodiscard]] ServedUnits units(double bytes) const;
  bool end_latency(std::uint32_t index, std::vector<FlowId>& completed);
  void release(std::uint32_t index);
  [[nodiscard]] double quantised(double rate) const;
  // bundles.cpp
  [[nodiscard]] std::span<Crossing> links_of(std::uint32_t bundle) {
    return {bundle_crossings_.data() + std::size_t{bundle} * stride_, bundles_[bundle].crossings};
  }
  void claim_links(std::uint32_t flow);
  void disown_links(std::uint32_t flow);
  void reshape(std::uint32_t flow);
  void place(std::uint32_t flow, ServedUnits left);
  [[nodiscard]] std::uint32_t find_bundle(double bound, std::uint32_t sign);
  [[nodiscard]] bool same_shape(std::uint32_t bundle, double bound);
  std::uint32_t take_bundle();
  void make_bundle(std::uint32_t flow, ServedUnits left, double bound, std::uint32_t sign);
  void enter_link(std::uint32_t bundle, std::uint32_t crossing, std::uint32_t sign);
  void join(std::uint32_t bundle, std::uint32_t flow, ServedUnits left);
  void insert(BundleState& bundle, std::uint32_t flow);
  void unlink(BundleState& bundle, std::uint32_t flow);
  void shrink(std::uint32_t bundle, std::uint32_t flows);
  void dissolve(std::uint32_t bundle);
  void forget_emptied();
  void finish(std::uint32_t bundle, std::vector<FlowId>& completed);
  [[nodiscard]] ServedUnits served_at(const BundleState& bundle, std::int64_t now) const;
  void settle(BundleState& bundle);
  void retime(std::uint32_t bundle);
  void mark_changed(std::uint32_t link);
  void mark_fresh(std::uint32_t bundle);
  // solve.cpp
  void solve();
  void begin_round();
  void include(std::uint32_t bundle);
  void include_ruled(std::uint32_t link);
  void share(const Crossing& crossing, const BundleState& bundle);
  void fill();
  void fill_evenly(double level);
  void fill_few();
  void fill_many();
  void sink_first(const Level& level);
  void bound_by(Touched& touched);
  void fill_tightest(Touched& touched);
  void fix(Member& member, double rate, std::uint32_t ruler);
  bool widen();
  void widen_at(Touched touched);
  void include_faster(std::uint32_t link, double level);
  void apply();
  void set_rate(std::uint32_t bundle, double rate);

  LinkTable links_;
  double quantum_ = 0.0;  // bytes per tick
  double rounder_ = 0.0;  // adding and subtracting it rounds to multiples of the quantum
  double per_quantum_ = 0.0;
  std::vector<FlowState> flows_;
  std::vector<Crossing> crossings_;  // stride_ places for each flow
  std::vector<std::uint32_t> free_;
  std::vector<BundleState> bundles_;
  std::vector<Crossing> bundle_crossings_;  // stride_ places for each bundle: shared links only
  std::vector<std::uint32_t> free_bundles_;
  std::vector<std::uint32_t> loose_;  // bundles without shared links
  std::vector<Crossing> shape_;       // shared links of the flow being placed
  std::size_t stride_ = 4;
  LatencyQueue latencies_;
  FinishQueue finishes_;                 // of bundles
  std::vector<std::uint32_t> fresh_;     // bundles that flows have joined since the last solve
  std::vector<std::uint32_t> changed_;   // links whose ruled bundles must be looked at
  std::vector<std::uint32_t> emptied_;   // links that no bundle crosses any more
  std::vector<std::uint32_t> reshaped_;  // flows one of whose links is shared from now on
  std::vector<std::uint32_t> batch_;
  Stack<Member> set_;
  Stack<Share> shares_;
  Stack<Touched> touched_;
  std::vector<Level> levels_;
  std::uint32_t round_ = 0;
  std::int64_t now_ = 0;
  std::int64_t solves_ = 0;
  std::int64_t rates_solved_ = 0;
};

}  // namespace longhaul
