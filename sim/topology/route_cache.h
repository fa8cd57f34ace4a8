// Routes asked for so far. Readers of different threads never wait for one another.
// Private to sim/topology.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "sim/topology/cluster.h"

namespace longhaul {

/// Open addressing over atomic pointers. A lookup of a known route takes one hash and usually one
/// probe; a new one is made by whoever asks first. Nothing is ever moved or forgotten, so
/// references stay valid as long as the cache.
class RouteCache {
 public:
  RouteCache() { publish(std::make_unique<Table>(64)); }

  /// The route of `key`, made by `make()` if it is not here yet. `make` may run in several threads
  /// at once for one key; they all come to the same route.
  template <class Make>
  const Route& get(std::uint64_t key, Make make) {
    if (const Entry* entry = table_.load(std::memory_order_acquire)->find(key)) {
      return entry->route;
    }
    return add({key, make()});
  }

 private:
  struct Entry {
    std::uint64_t key = 0;
    Route route;
  };

  struct Table {
    explicit Table(std::size_t size) : slots(size) {}

    /// Where a key is or would be. Multiplying by 2^64 / golden ratio spreads (from, to) pairs.
    [[nodiscard]] std::size_t slot_of(std::uint64_t key) const {
      std::uint64_t hash = key * 0x9E3779B97F4A7C15U;
      hash ^= hash >> 32;
      std::size_t slot = hash & (slots.size() - 1);
      const Entry* entry = slots[slot].load(std::memory_order_acquire);
      while (entry != nullptr && entry->key != key) {
        slot = (slot + 1) & (slots.size() - 1);
        entry = slots[slot].load(std::memory_order_acquire);
      }
      return slot;
    }
    [[nodiscard]] const Entry* find(std::uint64_t key) const {
      return slots[slot_of(key)].load(std::memory_order_acquire);
    }
    void put(const Entry& entry) {
      slots[slot_of(entry.key)].store(&entry, std::memory_order_release);
    }

    std::vector<std::atomic<const Entry*>> slots;  ///< a power of two; at most half of them used
  };

  const Route& add(Entry fresh) {
    const std::lock_guard lock(writing_);
    Table& table = *tables_.back();
    if (const Entry* other = table.find(fresh.key)) {
      return other->route;  // another thread was faster
    }
    const Entry& entry = entries_.emplace_back(std::move(fresh));
    if (2 * entries_.size() <= table.slots.size()) {
      table.put(entry);
    } else {
      auto larger = std::make_unique<Table>(2 * table.slots.size());
      for (const Entry& known : entries_) {
        larger->put(known);
      }
      publish(std::move(larger));
    }
    return entry.route;
  }

  /// Older tables stay: somebody may still read them. Together they are as large as the newest.
  void publish(std::unique_ptr<Table> table) {
    table_.store(table.get(), std::memory_order_release);
    tables_.push_back(std::move(table));
  }

  std::mutex writing_;
  std::deque<Entry> entries_;  ///< never moved
  std::vector<std::unique_ptr<Table>> tables_;
  std::atomic<const Table*> table_;
};

}  // namespace longhaul
