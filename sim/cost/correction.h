// A smooth factor on a grid of three logarithmic axes: what a fit found on top of a model of causes.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

namespace longhaul {

/// Logarithms of a factor at the knots of a grid; trilinear between them, constant outside.
struct Correction {
  std::array<std::vector<double>, 3> knots;  ///< log2 of what the axes count, rising, one at least
  std::vector<double> values;                ///< natural logarithms, the last axis fastest
  [[nodiscard]] bool empty() const { return values.empty(); }
};

/// The corners of the cell around a point and their weights (sum 1).
struct CorrectionCell {
  std::array<std::size_t, 8> index{};
  std::array<double, 8> weight{};
};

/// `counts`: the point, not logarithms; clamped to the grid.
CorrectionCell locate(const std::array<std::vector<double>, 3>& knots,
                      const std::array<double, 3>& counts);

/// 1 for an empty correction.
double correction_factor(const Correction& correction, const std::array<double, 3>& counts);

}  // namespace longhaul
