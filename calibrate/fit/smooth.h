// Smooth corrections: penalised least squares on a grid of three logarithmic axes.
#pragma once

#include <vector>

#include "sim/cost/correction.h"

namespace longhaul {

/// One measured deviation: the point (counts, not logarithms) and log(measured / modelled).
struct Deviation {
  std::array<double, 3> at{};
  double log = 0.0;
};

/// Huber's loss (k = 1.345 robust standard deviations), reweighted four times, plus `stiffness`
/// times the squared second differences along every axis (P-splines of degree 1: Eilers and Marx
/// 1996) and a hundredth of that times the squares of the values, so that knots without data go
/// to what their neighbours say. Knots are log2 of the axes.
Correction fit_correction(const std::array<std::vector<double>, 3>& knots,
                          const std::vector<Deviation>& deviations, double stiffness);

/// Fold of a family in grouped cross-validation: families are numbered in order; the number of
/// folds need not divide theirs. Equal everywhere (a hash that is written out).
int fold_of(std::size_t family, int folds);

}  // namespace longhaul
