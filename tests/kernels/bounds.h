#pragma once
// Outputs against references under bounds from a rounding analysis.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <vector>

#include "kernels/common/bfloat16.h"

namespace longhaul::kernels {

/// Unit roundoffs: the largest relative error of rounding to nearest (Higham, Accuracy and
/// Stability of Numerical Algorithms, 2.2).
inline constexpr double fp32_unit = 0x1p-24;
inline constexpr double bf16_unit = 0x1p-8;

inline double widened(double value) { return value; }
inline double widened(float value) { return static_cast<double>(value); }
inline double widened(Bfloat16 value) { return static_cast<double>(to_float(value)); }

/// The stored values, exact.
template <class T>
std::vector<double> to_doubles(const std::vector<T>& values) {
  std::vector<double> wide;
  wide.reserve(values.size());
  for (const T& value : values) wide.push_back(widened(value));
  return wide;
}

/// The largest |output - reference| / bound(i), which is at most 1 if the analysis holds; infinity
/// for a NaN, or an infinity that the reference does not have.
template <class T, class Bound>
double worst_share(const std::vector<T>& output, const std::vector<double>& reference,
                   const Bound& bound) {
  if (output.size() != reference.size() || output.empty()) {
    throw std::invalid_argument("worst_share: sizes differ, or nothing to compare");
  }
  constexpr double smallest = 1e-37;  // results below are subnormal in bf16 and fp32
  double worst = 0;
  for (std::size_t i = 0; i < output.size(); ++i) {
    const double value = widened(output[i]);
    if (std::isinf(reference[i]) && value == reference[i]) continue;
    const double share = std::abs(value - reference[i]) / (bound(i) + smallest);
    worst = std::isnan(share) ? std::numeric_limits<double>::infinity() : std::max(worst, share);
    if (std::isinf(worst)) return worst;
  }
  return worst;
}

}  // namespace longhaul::kernels
