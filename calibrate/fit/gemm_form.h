// The two ways in which a fit of products is parameterised. Private to the fits.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "calibrate/fit/kernel_fit.h"
#include "calibrate/fit/study.h"

namespace longhaul {

// Chosen among 0.03, 0.1, 0.3 and 1 by held-out errors of H100's tables.
inline constexpr double gemm_stiffness = 0.3;
inline constexpr int gemm_backfits = 2;  // rounds in which two corrections explain each other's rest

/// Parameters of a mechanism and what they mean.
struct GemmForm {
  std::vector<std::string> names;       ///< of the parameters; logarithms but for `wave_odds`
  Eigen::VectorXd prior;
  Eigen::VectorXd prior_sigma;
  std::vector<Eigen::VectorXd> starts;  ///< of the search
  std::function<GemmCurve(const Eigen::VectorXd&)> curve;
  /// Fits the two corrections, each to what the other leaves.
  std::function<void(const std::vector<GemmRow>&, GemmCurve&)> correct;
};

/// The fastest of cuBLAS's tiles.
GemmForm fastest_tile_form(const Device& device, KernelType type);

/// Tiles that DeepGEMM's rule chooses; a device without such a rule has no form.
std::optional<GemmForm> block_form(const Device& device);

/// {m, n, k}
std::array<double, 3> gemm_sizes(const GemmShape& shape);

/// log(measured / mechanism) of every row.
std::vector<double> rest_of(const Device& device, const std::vector<GemmRow>& rows,
                            const GemmCurve& curve);

/// The correction over m, n, k on knots an octave apart, of what `other` leaves of `rest`; sets the
/// range as well.
void fit_size_correction(const std::vector<GemmRow>& rows, const std::vector<double>& rest,
                         const std::vector<double>& other, GemmCurve& curve);

}  // namespace longhaul
