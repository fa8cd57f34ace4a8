// Instants fixed when they are set: ends of computations, arrivals. Soonest first.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace longhaul::bench {

/// A 4-ary heap of instants, each with its payloads in a list: in lock-step thousands of
/// computations end at one instant.
class TimerQueue {
 public:
  static constexpr std::int64_t never = INT64_MAX;

  [[nodiscard]] std::int64_t next() const { return heap_.empty() ? never : heap_.front().when; }

  void push(std::int64_t when, std::uint32_t payload) {
    const std::uint32_t node = make_node(payload);
    if (when == last_when_) {
      nodes_[last_node_].next = node;
      last_node_ = node;
      return;
    }
    last_when_ = when;
    last_node_ = node;
    heap_.push_back({when, node});
    rise();
  }

  /// Removes the soonest list and appends its payloads.
  void pop(std::vector<std::uint32_t>& payloads) {
    const Entry top = heap_.front();
    last_when_ = top.when == last_when_ ? none_when : last_when_;
    for (std::uint32_t node = top.node; node != none;) {
      payloads.push_back(nodes_[node].payload);
      const std::uint32_t next = nodes_[node].next;
      nodes_[node].next = free_;
      free_ = node;
      node = next;
    }
    const Entry last = heap_.back();
    heap_.pop_back();
    if (!heap_.empty()) {
      sink(last);
    }
  }

  void shift(std::int64_t span) {
    for (Entry& entry : heap_) {
      entry.when += span;
    }
    last_when_ = none_when;
  }

  /// Calls visit(when, payload) for everything pending, in no particular order.
  template <class Visit>
  void for_each(Visit visit) const {
    for (const Entry& entry : heap_) {
      for (std::uint32_t node = entry.node; node != none; node = nodes_[node].next) {
        visit(entry.when, nodes_[node].payload);
      }
    }
  }

 private:
  static constexpr std::uint32_t none = UINT32_MAX;
  static constexpr std::int64_t none_when = -1;
  struct Entry {
    std::int64_t when;
    std::uint32_t node;
  };
  struct Node {
    std::uint32_t payload;
    std::uint32_t next;
  };

  std::uint32_t make_node(std::uint32_t payload) {
    if (free_ == none) {
      nodes_.push_back({payload, none});
      return static_cast<std::uint32_t>(nodes_.size() - 1);
    }
    const std::uint32_t node = free_;
    free_ = nodes_[node].next;
    nodes_[node] = {payload, none};
    return node;
  }

  void rise() {
    const Entry entry = heap_.back();
    std::size_t place = heap_.size() - 1;
    while (place > 0 && entry.when < heap_[(place - 1) / 4].when) {
      heap_[place] = heap_[(place - 1) / 4];
      place = (place - 1) / 4;
    }
    heap_[place] = entry;
  }

  void sink(const Entry& entry) {
    std::size_t place = 0;
    const std::size_t size = heap_.size();
    for (std::size_t child = 1; child < size; child = 4 * place + 1) {
      const std::size_t end = std::min(child + 4, size);
      std::size_t least = child;
      for (std::size_t other = child + 1; other < end; ++other) {
        least = heap_[other].when < heap_[least].when ? other : least;
      }
      if (heap_[least].when >= entry.when) {
        break;
      }
      heap_[place] = heap_[least];
      place = least;
    }
    heap_[place] = entry;
  }

  std::vector<Entry> heap_;
  std::vector<Node> nodes_;
  std::uint32_t free_ = none;
  std::int64_t last_when_ = none_when;
  std::uint32_t last_node_ = none;
};

}  // namespace longhaul::bench
