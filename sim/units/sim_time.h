// Event time: a 64-bit count of 2^-44 s ticks (0.057 ps). See
// docs/decisions/0002-event-time.md for why this resolution and width.
#pragma once

#include <compare>
#include <cstdint>

#include "sim/units/check.h"
#include "sim/units/quantity.h"

namespace longhaul {

/// A point or span of simulated time. Range: 2^19 s (6 days). Arithmetic is exact.
class SimTime {
 public:
  constexpr SimTime() = default;
  static constexpr SimTime of_ticks(std::int64_t ticks) { return SimTime(ticks); }
  static constexpr SimTime infinity() { return SimTime(INT64_MAX); }
  /// Rounds to the nearest tick; checks the range, so an overlong run is caught here.
  static SimTime from(Seconds span) {
    const double ticks = span.value() * ticks_per_second;
    check(ticks >= 0.0 && ticks < 9.0e18, "simulated time must be between 0 and 2^19 seconds");
    // Beyond 2^52 every double is whole, and a half would not be added exactly.
    return SimTime(static_cast<std::int64_t>(ticks < 4503599627370496.0 ? ticks + 0.5 : ticks));
  }
  [[nodiscard]] constexpr std::int64_t ticks() const { return ticks_; }
  /// Exact: a scaling by a power of two.
  [[nodiscard]] Seconds seconds() const {
    return Seconds::of(static_cast<double>(ticks_) / ticks_per_second);
  }

  constexpr auto operator<=>(const SimTime&) const = default;
  friend constexpr SimTime operator+(SimTime a, SimTime b) { return SimTime(a.ticks_ + b.ticks_); }
  friend constexpr SimTime operator-(SimTime a, SimTime b) { return SimTime(a.ticks_ - b.ticks_); }
  friend constexpr SimTime operator*(SimTime a, std::int64_t n) { return SimTime(a.ticks_ * n); }
  constexpr SimTime& operator+=(SimTime other) { ticks_ += other.ticks_; return *this; }
  constexpr SimTime& operator-=(SimTime other) { ticks_ -= other.ticks_; return *this; }

  /// One second is 2^44 ticks.
  static constexpr int tick_exponent = 44;
  static constexpr double ticks_per_second = static_cast<double>(std::int64_t{1} << tick_exponent);

 private:
  explicit constexpr SimTime(std::int64_t ticks) : ticks_(ticks) {}
  std::int64_t ticks_ = 0;
};

}  // namespace longhaul
