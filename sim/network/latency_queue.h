// When latencies end, soonest first. Routes of a cluster have few distinct latencies, and flows
// start in the order of time: flows of one latency form a line in which the first ends first.
#pragma once

#include <cstdint>
#include <queue>
#include <vector>

namespace longhaul {

/// A few first-in-first-out lanes, one per latency in use; a heap for whatever finds no lane.
class LatencyQueue {
 public:
  static constexpr std::int64_t never = INT64_MAX;

  /// `flow` starts at `now` (>= every earlier call's) and waits for `latency` ticks.
  void push(std::uint32_t flow, std::int64_t now, std::int64_t latency) {
    const std::int64_t when = now + latency;
    next_ = when < next_ ? when : next_;
    for (Lane& lane : lanes_) {
      if (lane.latency == latency) {
        push_back(lane, {when, flow});
        return;
      }
    }
    push_elsewhere({when, flow}, latency);
  }
  /// The soonest instant, or `never`.
  [[nodiscard]] std::int64_t next() const { return next_; }
  /// Removes all that end at next() and appends their flows.
  void pop(std::vector<std::uint32_t>& flows);
  /// Shifts every instant.
  void shift(std::int64_t span);

 private:
  static constexpr std::size_t lane_limit = 8;
  struct Wait {
    std::int64_t when;
    std::uint32_t flow;
    bool operator>(const Wait& other) const {
      return when != other.when ? when > other.when : flow > other.flow;
    }
  };
  struct Lane {
    std::int64_t latency = 0;
    std::size_t head = 0;
    std::vector<Wait> waits;  // waits[head..] are in the line
    [[nodiscard]] bool empty() const { return head == waits.size(); }
  };

  static void push_back(Lane& lane, const Wait& wait) {
    if (lane.waits.size() == lane.waits.capacity()) {
      make_room(lane);
    }
    lane.waits.push_back(wait);
  }
  void push_elsewhere(const Wait& wait, std::int64_t latency);
  static void make_room(Lane& lane);
  void find_next();

  std::vector<Lane> lanes_;
  std::priority_queue<Wait, std::vector<Wait>, std::greater<>> others_;
  std::int64_t next_ = never;
};

}  // namespace longhaul
