// Order statistics of small samples.
#pragma once

#include <vector>

namespace longhaul {

/// The value below which a fraction of the sample lies, linear between order statistics (type 7 of
/// Hyndman and Fan 1996). The sample must not be empty.
double quantile(std::vector<double> sample, double fraction);

/// The 0.5 quantile.
double median(const std::vector<double>& sample);

}  // namespace longhaul
