#include "calibrate/fit/statistics.h"

#include <algorithm>
#include <cmath>

#include "sim/units/check.h"

namespace longhaul {

double quantile(std::vector<double> sample, double fraction) {
  check(!sample.empty(), "a quantile needs a sample");
  std::sort(sample.begin(), sample.end());
  const double place = fraction * static_cast<double>(sample.size() - 1);
  const auto low = static_cast<std::size_t>(std::floor(place));
  const std::size_t high = std::min(low + 1, sample.size() - 1);
  return sample[low] + (sample[high] - sample[low]) * (place - static_cast<double>(low));
}

double median(const std::vector<double>& sample) { return quantile(sample, 0.5); }

}  // namespace longhaul
