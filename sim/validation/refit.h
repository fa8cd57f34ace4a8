// The fitted numbers of software profiles, refitted on measured runs, and how well they predict
// sources that they have not seen (docs/models/validation.md).
#pragma once

#include <string>
#include <vector>

#include "sim/scenario/software.h"
#include "sim/validation/validate.h"

namespace longhaul {

/// One number marked `fit` of one stack. Durations in seconds.
struct RefitNumber {
  std::string stack;
  SoftwareNumber number = SoftwareNumber::host_launch;
  double shipped = 0.0;  ///< the prior's mean ...
  double spread = 0.0;   ///< ... and its standard deviation
  double fitted = 0.0;
  double posterior = 0.0;  ///< standard deviation after the fit
};

/// A source, predicted three ways: median |predicted / measured - 1| of its times.
struct HeldOutSource {
  std::string source;
  std::int64_t runs = 0;
  double shipped = 0.0;   ///< with the profiles as they come
  double held_out = 0.0;  ///< refitted on all other sources
  double refitted = 0.0;  ///< refitted on all sources
};

struct Refit {
  std::vector<RefitNumber> numbers;    ///< fitted on all sources
  std::vector<HeldOutSource> sources;  ///< by name; empty unless cross-validation is wanted
};

/// Refits every number marked `fit` as its most probable value: its shipped value and spread are
/// the prior, the errors of times the data. With y = ln(measured / predicted), J its sensitivity to
/// the numbers (finite differences over half a spread) and z the change in spreads, it minimises
/// |z|^2 + sum of w rho((y - J z) / 0.1): one Gauss-Newton step, Huber's rho with its weights found
/// by iteration, and w such that a source of n figures weighs sqrt(n). Trusted runs only.
/// `cross_validate`: also leaves every source out in turn and predicts it.
Refit refit_software(const std::vector<MeasuredRun>& runs, bool cross_validate,
                     const ValidationProgress& progress);

/// The refitted numbers as lines for calibrate/profiles/software/.
std::string refit_text(const Refit& refit);

/// The table of sources.
std::string cross_validation_text(const Refit& refit);

/// Solves a x = b for a symmetric positive definite matrix of rows (Cholesky), and returns the
/// diagonal of the inverse in `variances`.
std::vector<double> solve_normal(const std::vector<std::vector<double>>& a,
                                 const std::vector<double>& b, std::vector<double>& variances);

}  // namespace longhaul
