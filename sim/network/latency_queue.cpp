#include "sim/network/latency_queue.h"

#include <algorithm>

namespace longhaul {

// An empty lane is as good as a new one.
void LatencyQueue::push_elsewhere(const Wait& wait, std::int64_t latency) {
  Lane* empty = nullptr;
  for (Lane& lane : lanes_) {
    empty = lane.empty() ? &lane : empty;
  }
  if (lanes_.size() < lane_limit) {
    empty = &lanes_.emplace_back();
  }
  if (empty == nullptr) {
    others_.push(wait);
    return;
  }
  empty->latency = latency;
  push_back(*empty, wait);
}

// What has left the line is dropped when it is half of it: constant work per flow.
void LatencyQueue::make_room(Lane& lane) {
  if (lane.head * 2 > lane.waits.size()) {
    lane.waits.erase(lane.waits.begin(),
                     lane.waits.begin() + static_cast<std::ptrdiff_t>(lane.head));
    lane.head = 0;
  }
}

void LatencyQueue::pop(std::vector<std::uint32_t>& flows) {
  for (Lane& lane : lanes_) {
    while (!lane.empty() && lane.waits[lane.head].when == next_) {
      flows.push_back(lane.waits[lane.head++].flow);
    }
    if (lane.empty()) {
      lane.waits.clear();
      lane.head = 0;
    }
  }
  while (!others_.empty() && others_.top().when == next_) {
    flows.push_back(others_.top().flow);
    others_.pop();
  }
  find_next();
}

void LatencyQueue::find_next() {
  next_ = others_.empty() ? never : others_.top().when;
  for (const Lane& lane : lanes_) {
    next_ = lane.empty() ? next_ : std::min(next_, lane.waits[lane.head].when);
  }
}

void LatencyQueue::shift(std::int64_t span) {
  for (Lane& lane : lanes_) {
    for (std::size_t i = lane.head; i < lane.waits.size(); ++i) {
      lane.waits[i].when += span;
    }
  }
  std::vector<Wait> moved;
  for (; !others_.empty(); others_.pop()) {
    moved.push_back({others_.top().when + span, others_.top().flow});
  }
  for (const Wait& wait : moved) {
    others_.push(wait);
  }
  find_next();
}

}  // namespace longhaul
