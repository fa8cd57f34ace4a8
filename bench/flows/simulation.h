// The loop that all reference workloads share: flows of a network and timers in one order of time.
#pragma once

#ifdef LONGHAUL_BENCH_SIMGRID
#include "bench/simgrid/simulation.h"
#else

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "bench/flows/platform.h"
#include "bench/flows/timer_queue.h"
#include "bench/flows/totals.h"

namespace longhaul::bench {

/// Flows and timers. The network counts 2^-44 s; a run that lasts less than 2^19 s counts finer:
/// one second here is 2^scale seconds there, which is exact, so that the shortest flows keep ten
/// digits.
class Simulation {
 public:
  /// `capacities` in bytes per second; `longest`: no run lasts longer, in seconds.
  Simulation(const std::vector<double>& capacities, double longest);

  [[nodiscard]] std::int64_t ticks(double seconds) const {
    return static_cast<std::int64_t>(seconds * ticks_per_second_ + 0.5);
  }
  [[nodiscard]] double seconds(double ticks) const { return ticks / ticks_per_second_; }
  [[nodiscard]] std::int64_t now() const { return now_; }
  [[nodiscard]] const Totals& totals() const { return totals_; }
  [[nodiscard]] const std::vector<std::int64_t>& completion_times() const { return fct_; }
  [[nodiscard]] const FlowNetwork& network() const { return network_; }
  void keep_completion_times() { keep_ = true; }

  void compute(std::int64_t span, std::uint32_t who) {
    ++totals_.computes;
    timers_.push(now_ + span, who);
  }
  void alarm(std::int64_t when, std::uint32_t who) {
    ++totals_.timers;
    timers_.push(when, who);
  }
  void send(const Path& path, double bytes, std::uint64_t tag,
            std::span<const std::uint32_t> weights = {});

  /// Runs to the end. Calls workload.timer(who) and workload.sent(tag).
  template <class Workload>
  void run(Workload& workload) {
    for (;;) {
      const std::int64_t flow = network_.next_event().ticks();
      const std::int64_t timer = timers_.next();
      now_ = std::min(flow, timer);
      if (now_ == TimerQueue::never) {
        return;
      }
      totals_.end = now_;
      if (flow == now_) {
        end_flows(workload);
      }
      while (timers_.next() == now_) {
        ended_.clear();
        timers_.pop(ended_);
        for (const std::uint32_t who : ended_) {
          workload.timer(who);
        }
      }
    }
  }

  /// Appends all that determines the future but the workload's own state, relative to now.
  void append_state(std::vector<std::uint64_t>& state) const;
  /// Repeats `periods` times what happened since `earlier`, which lasted `span`.
  void skip(std::int64_t span, std::int64_t periods, const Totals& earlier);

 private:
  struct Sent {
    std::int64_t when = 0;
    std::uint64_t tag = 0;
    bool moving = false;
  };

  template <class Workload>
  void end_flows(Workload& workload) {
    done_.clear();
    network_.advance(SimTime::of_ticks(now_), done_);
    tags_.clear();
    for (const FlowId flow : done_) {
      note(sent_[flow.index]);
      tags_.push_back(sent_[flow.index].tag);  // its id may be used again at once
    }
    for (const std::uint64_t tag : tags_) {
      workload.sent(tag);
    }
  }
  void note(Sent& sent);

  int scale_;
  double time_scale_;
  double ticks_per_second_;
  FlowNetwork network_;
  TimerQueue timers_;
  std::int64_t now_ = 0;
  Totals totals_;
  std::vector<Sent> sent_;  // by FlowId
  std::vector<FlowId> done_;
  std::vector<std::uint32_t> ended_;
  std::vector<std::uint64_t> tags_;
  std::vector<std::int64_t> fct_;
  bool keep_ = false;
};

}  // namespace longhaul::bench

#endif
