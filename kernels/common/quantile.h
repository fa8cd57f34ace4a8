#pragma once
// Order statistics of a handful of samples.

#include <algorithm>
#include <cstddef>
#include <vector>

namespace longhaul::kernels {

/// The `q` quantile (0 to 1) of at least one sample, linear between order statistics.
inline double quantile(std::vector<double> samples, double q) {
  std::sort(samples.begin(), samples.end());
  const double at = q * static_cast<double>(samples.size() - 1);
  const auto low = static_cast<std::size_t>(at);
  const std::size_t high = std::min(low + 1, samples.size() - 1);
  return samples[low] + (samples[high] - samples[low]) * (at - static_cast<double>(low));
}

}  // namespace longhaul::kernels
