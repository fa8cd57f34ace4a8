// When bundles of flows next end, soonest first. Those of one instant are one entry of the heap,
// since in lock-step collectives hundreds are.
#pragma once

#include <cstdint>
#include <vector>

namespace longhaul {

/// An indexed 4-ary heap of instants (ticks), each with the items due then. Deterministic.
class FinishQueue {
 public:
  static constexpr std::int64_t never = INT64_MAX;

  /// Sets or changes the instant at which `item` is due.
  void set(std::uint32_t item, std::int64_t when);
  /// Forgets `item`, if it is there.
  void erase(std::uint32_t item) {
    if (item < members_.size() && members_[item].group != none) {
      leave(item);
    }
  }
  /// The soonest instant, or `never`.
  [[nodiscard]] std::int64_t next() const { return heap_.empty() ? never : heap_.front().when; }
  /// Removes the soonest instant and appends its items.
  void pop(std::vector<std::uint32_t>& items);
  /// Shifts every instant.
  void shift(std::int64_t span);

 private:
  static constexpr std::uint32_t none = UINT32_MAX;
  struct Entry {
    std::int64_t when;
    std::uint32_t group;
  };
  // Items of one instant: a doubly linked ring through members_.
  struct Group {
    std::int64_t when;
    std::uint32_t place;  // in the heap
    std::uint32_t first;
  };
  struct Member {
    std::uint32_t group = none;
    std::uint32_t next = 0;
    std::uint32_t previous = 0;
  };

  void join(std::uint32_t item, std::int64_t when);
  void leave(std::uint32_t item);
  void add_to(std::uint32_t group, std::uint32_t item);
  void remove_entry(std::uint32_t place);
  void place_entry(std::uint32_t place, const Entry& entry);
  void rise(std::uint32_t place, const Entry& entry);
  void sink(std::uint32_t place, const Entry& entry);
  void settle(std::uint32_t place, const Entry& entry);

  std::vector<Entry> heap_;
  std::vector<Group> groups_;
  std::vector<std::uint32_t> free_groups_;
  std::vector<Member> members_;  // by item
  std::uint32_t last_ = none;    // the group last joined or moved: most often the next one, too
};

}  // namespace longhaul
