// Physical quantities as types: a double and the exponents of (second, byte, FLOP).
// Bytes / BytesPerSecond *is* Seconds; like over like is a plain number; nothing
// converts from a bare number, and adding bytes to seconds does not compile.
#pragma once

#include <cmath>
#include <compare>

namespace longhaul {

/// A quantity of dimension second^S * byte^B * flop^F, stored in base units
/// (seconds, bytes, floating-point operations).
template <int S, int B, int F>
class Quantity {
 public:
  constexpr Quantity() = default;
  /// Wraps a number that is already in base units. Explicit: the caller says so.
  static constexpr Quantity of(double base_units) { return Quantity(base_units); }
  /// The number in base units (seconds, bytes, FLOP and their ratios).
  [[nodiscard]] constexpr double value() const { return value_; }

  constexpr auto operator<=>(const Quantity&) const = default;
  constexpr Quantity operator-() const { return Quantity(-value_); }
  constexpr Quantity& operator+=(Quantity other) { value_ += other.value_; return *this; }
  constexpr Quantity& operator-=(Quantity other) { value_ -= other.value_; return *this; }
  constexpr Quantity& operator*=(double factor) { value_ *= factor; return *this; }
  friend constexpr Quantity operator+(Quantity a, Quantity b) { return Quantity(a.value_ + b.value_); }
  friend constexpr Quantity operator-(Quantity a, Quantity b) { return Quantity(a.value_ - b.value_); }
  friend constexpr Quantity operator*(Quantity a, double k) { return Quantity(a.value_ * k); }
  friend constexpr Quantity operator*(double k, Quantity a) { return Quantity(a.value_ * k); }
  friend constexpr Quantity operator/(Quantity a, double k) { return Quantity(a.value_ / k); }

 private:
  explicit constexpr Quantity(double value) : value_(value) {}
  double value_ = 0.0;
};

/// Product and ratio of dimensions; a dimensionless result is a plain double.
template <int S1, int B1, int F1, int S2, int B2, int F2>
constexpr auto operator*(Quantity<S1, B1, F1> a, Quantity<S2, B2, F2> b) {
  if constexpr (S1 + S2 == 0 && B1 + B2 == 0 && F1 + F2 == 0) {
    return a.value() * b.value();
  } else {
    return Quantity<S1 + S2, B1 + B2, F1 + F2>::of(a.value() * b.value());
  }
}
template <int S1, int B1, int F1, int S2, int B2, int F2>
constexpr auto operator/(Quantity<S1, B1, F1> a, Quantity<S2, B2, F2> b) {
  if constexpr (S1 == S2 && B1 == B2 && F1 == F2) {
    return a.value() / b.value();
  } else {
    return Quantity<S1 - S2, B1 - B2, F1 - F2>::of(a.value() / b.value());
  }
}

using Seconds = Quantity<1, 0, 0>;
using Bytes = Quantity<0, 1, 0>;
using Flops = Quantity<0, 0, 1>;
using BytesPerSecond = Quantity<-1, 1, 0>;
using FlopsPerSecond = Quantity<-1, 0, 1>;
using FlopsPerByte = Quantity<0, -1, 1>;
using Hertz = Quantity<-1, 0, 0>;

}  // namespace longhaul
