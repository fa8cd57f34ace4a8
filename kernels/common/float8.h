#pragma once
// e4m3 floating point on the host: 1 sign, 4 exponent (bias 7), 3 mantissa bits, no infinity
// (Micikevicius et al. 2022, "FP8 formats for deep learning", arXiv:2209.05433).

#include <cmath>
#include <cstdint>

namespace longhaul::kernels {

/// An e4m3 number as it lies in memory; 0x7f and 0xff are NaN, 448 is the largest.
struct Float8 {
  std::uint8_t bits = 0;
};

/// The value, exact.
inline float to_float(Float8 value) {
  const int exponent = value.bits >> 3 & 15;
  const int mantissa = value.bits & 7;
  const float sign = (value.bits & 0x80) != 0 ? -1.0f : 1.0f;
  if (exponent == 15 && mantissa == 7) return std::nanf("");
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -9);
  return sign * std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
}

/// Nearest e4m3 number, ties to even; beyond 448 it is 448 (cvt.rn.satfinite). NaN stays NaN.
inline Float8 to_float8(float value) {
  if (std::isnan(value)) return {0x7f};
  const std::uint8_t sign = std::signbit(value) ? 0x80 : 0;
  const float size = std::fabs(value);
  if (size >= 448.0f) return {static_cast<std::uint8_t>(sign | 0x7e)};
  int exponent = 0;
  std::frexp(size, &exponent);                             // size = f 2^exponent, 1/2 <= f < 1
  const int step = exponent - 4 < -9 ? -9 : exponent - 4;  // log2 of the spacing there
  // Rounding may carry into the next exponent, which the encoding continues without a gap.
  const int steps = static_cast<int>(std::nearbyint(std::ldexp(size, -step)));
  const int field = steps < 8 ? steps : (step + 9) * 8 + steps;
  return {static_cast<std::uint8_t>(sign | field)};
}

}  // namespace longhaul::kernels
