// The loop of bench/flows/simulation.h on SimGrid: the same workloads, another engine.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include <simgrid/s4u.hpp>

#include "bench/flows/platform.h"
#include "bench/flows/totals.h"

namespace longhaul::bench {

/// What workloads ask of a network besides flows; SimGrid does not say.
struct SolveCounts {
  [[nodiscard]] std::int64_t solves() const { return 0; }
  [[nodiscard]] std::int64_t rates_solved() const { return 0; }
};

/// Flows and timers on SimGrid, driven by call-backs without actors, which is its fastest way.
/// Every route is declared with a latency of one second, for SimGrid shares bandwidth by latency;
/// the true latency comes in as a factor.
class Simulation {
 public:
  Simulation(const std::vector<double>& capacities, double longest);

  [[nodiscard]] std::int64_t ticks(double seconds) const {
    return static_cast<std::int64_t>(seconds * ticks_per_second + 0.5);
  }
  [[nodiscard]] double seconds(double ticks) const { return ticks / ticks_per_second; }
  [[nodiscard]] std::int64_t now() const { return ticks(simgrid::s4u::Engine::get_clock()); }
  [[nodiscard]] const Totals& totals() const { return totals_; }
  [[nodiscard]] const std::vector<std::int64_t>& completion_times() const { return fct_; }
  [[nodiscard]] SolveCounts network() const { return {}; }
  void keep_completion_times() { keep_ = true; }

  void compute(std::int64_t span, std::uint32_t who) {
    ++totals_.computes;
    set_timer(now() + span, who);
  }
  void alarm(std::int64_t when, std::uint32_t who) {
    ++totals_.timers;
    set_timer(when, who);
  }
  void send(const Path& path, double bytes, std::uint64_t tag,
            std::span<const std::uint32_t> weights = {});

  template <class Workload>
  void run(Workload& workload) {
    timer_ = [&](std::uint32_t who) { workload.timer(who); };
    sent_ = [&](std::uint64_t tag) { workload.sent(tag); };
    engine_->run();
  }

  void append_state(std::vector<std::uint64_t>&) const {}
  void skip(std::int64_t, std::int64_t, const Totals&) {}

 private:
  static constexpr double ticks_per_second = 0x1p52;
  struct Sent {
    simgrid::s4u::CommPtr comm;
    std::int64_t when;
    std::uint64_t tag;
  };
  struct Ends {
    simgrid::s4u::Host* from;
    simgrid::s4u::Host* to;
  };
  void set_timer(std::int64_t when, std::uint32_t who);
  Ends ends_of(const Path& path);
  void over(const simgrid::s4u::Activity& activity);
  void bury(simgrid::s4u::ActivityPtr activity);
  void waited(const simgrid::s4u::Activity& activity);

  std::unique_ptr<simgrid::s4u::Engine> engine_;
  simgrid::s4u::NetZone* zone_ = nullptr;
  std::vector<simgrid::s4u::Link*> links_;
  std::vector<simgrid::s4u::Host*> hosts_;
  std::map<std::vector<std::uint32_t>, Ends> routes_;
  std::map<std::pair<const simgrid::s4u::Host*, const simgrid::s4u::Host*>, double> latencies_;
  std::unordered_map<const simgrid::s4u::Activity*, Sent> flows_;
  std::unordered_map<const simgrid::s4u::Activity*, std::pair<simgrid::s4u::ExecPtr, std::uint32_t>>
      execs_;
  std::function<void(std::uint32_t)> timer_;
  std::function<void(std::uint64_t)> sent_;
  std::vector<simgrid::s4u::ActivityPtr> buried_;
  std::size_t next_grave_ = 0;
  Totals totals_;
  std::vector<std::int64_t> fct_;
  bool keep_ = false;
};

}  // namespace longhaul::bench
