// Event time: a 64-bit count of 2^-44 s ticks (0.057 ps). See
// docs/decisions/0002-event-time.md for why this resolution and width.
#pragma once

#include <compare>
#include <cstdint>
#include <stdexcept>

#include "sim/units/check.h"
#include "sim/units/quantity.h"

namespace longhaul {

/// Thrown where a time leaves the range of SimTime: what is simulated takes longer than six days.
class TimeRangeError : public std::range_error {
 public:
  TimeRangeError() : std::range_error("simulated time goes beyond 2^19 s (6 days)") {}
};

/// Verifies that something ends within the range of SimTime.
inline void check_time_range(bool holds) {
  if (!holds) {
    throw TimeRangeError();
  }
}

/// A point or span of simulated time. Range: 2^19 s (6 days). Arithmetic is exact; a result out of
/// range throws TimeRangeError.
class SimTime {
 public:
  constexpr SimTime() = default;
  static constexpr SimTime of_ticks(std::int64_t ticks) { return SimTime(ticks); }
  static constexpr SimTime infinity() { return SimTime(INT64_MAX); }
  /// Rounds to the nearest tick.
  static SimTime from(Seconds span) {
    const double ticks = span.value() * ticks_per_second;
    check(ticks >= 0.0, "simulated time must not be negative");
    check_time_range(ticks < 9.0e18);
    // Beyond 2^52 every double is whole, and a half would not be added exactly.
    return SimTime(static_cast<std::int64_t>(ticks < 4503599627370496.0 ? ticks + 0.5 : ticks));
  }
  [[nodiscard]] constexpr std::int64_t ticks() const { return ticks_; }
  /// Exact: a scaling by a power of two.
  [[nodiscard]] Seconds seconds() const {
    return Seconds::of(static_cast<double>(ticks_) / ticks_per_second);
  }

  constexpr auto operator<=>(const SimTime&) const = default;
  friend constexpr SimTime operator+(SimTime a, SimTime b) { return a += b; }
  friend constexpr SimTime operator-(SimTime a, SimTime b) { return SimTime(a.ticks_ - b.ticks_); }
  friend constexpr SimTime operator*(SimTime a, std::int64_t n) {
    std::int64_t ticks = 0;
    return __builtin_mul_overflow(a.ticks_, n, &ticks) ? throw TimeRangeError() : SimTime(ticks);
  }
  constexpr SimTime& operator+=(SimTime other) {
    return __builtin_add_overflow(ticks_, other.ticks_, &ticks_) ? throw TimeRangeError() : *this;
  }
  constexpr SimTime& operator-=(SimTime other) { ticks_ -= other.ticks_; return *this; }

  /// One second is 2^44 ticks.
  static constexpr int tick_exponent = 44;
  static constexpr double ticks_per_second = static_cast<double>(std::int64_t{1} << tick_exponent);

 private:
  explicit constexpr SimTime(std::int64_t ticks) : ticks_(ticks) {}
  std::int64_t ticks_ = 0;
};

}  // namespace longhaul
