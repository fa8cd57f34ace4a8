#include "sim/cost/correction.h"

#include <algorithm>
#include <cmath>

namespace longhaul {

namespace {

struct Place1 {
  std::size_t low = 0;
  std::size_t high = 0;
  double share = 0.0;  // of high
};

Place1 place_on(const std::vector<double>& knots, double count) {
  const double x = std::log2(std::max(count, 1e-12));
  if (x <= knots.front()) {
    return {0, 0, 0.0};
  }
  if (x >= knots.back()) {
    return {knots.size() - 1, knots.size() - 1, 0.0};
  }
  const auto above = std::upper_bound(knots.begin(), knots.end(), x);
  const auto high = static_cast<std::size_t>(above - knots.begin());
  const double share = (x - knots[high - 1]) / (knots[high] - knots[high - 1]);
  return {high - 1, high, share};
}

}  // namespace

CorrectionCell locate(const std::array<std::vector<double>, 3>& knots,
                      const std::array<double, 3>& counts) {
  std::array<Place1, 3> places;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    places[axis] = place_on(knots[axis], counts[axis]);
  }
  CorrectionCell cell;
  for (std::size_t corner = 0; corner < 8; ++corner) {
    std::size_t index = 0;
    double weight = 1.0;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      const bool high = ((corner >> axis) & 1U) != 0;
      const Place1& place = places[axis];
      index = index * knots[axis].size() + (high ? place.high : place.low);
      weight *= high ? place.share : 1.0 - place.share;
    }
    cell.index[corner] = index;
    cell.weight[corner] = weight;
  }
  return cell;
}

double correction_factor(const Correction& correction, const std::array<double, 3>& counts) {
  if (correction.empty()) {
    return 1.0;
  }
  const CorrectionCell cell = locate(correction.knots, counts);
  double log = 0.0;
  for (std::size_t corner = 0; corner < 8; ++corner) {
    log += cell.weight[corner] * correction.values[cell.index[corner]];
  }
  return std::exp(log);
}

}  // namespace longhaul
