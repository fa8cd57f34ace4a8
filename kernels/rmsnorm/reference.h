#pragma once
// Double-precision reference of RMSNorm, forward and backward.

#include <cstdint>
#include <vector>

namespace longhaul::kernels {

/// Rows of `width` elements, each divided by its root mean square and multiplied by a weight per
/// column (Zhang and Sennrich, arXiv 1910.07467).
struct RmsNormShape {
  std::int64_t rows = 0;
  int width = 8;  ///< a multiple of 8
  float epsilon = 1e-5f;
};

struct RmsNormOutput {
  std::vector<double> y;                ///< [rows][width]
  std::vector<double> reciprocal_root;  ///< [rows]
};

/// y = x r w with r = 1 / sqrt(mean(x^2) + epsilon).
RmsNormOutput rmsnorm_reference(const RmsNormShape& shape, const std::vector<double>& x,
                                const std::vector<double>& weight);

struct RmsNormGradients {
  std::vector<double> dx;       ///< [rows][width]
  std::vector<double> dweight;  ///< [width]
};

/// Of a loss whose gradient at y is dy: dx = r (w dy - x r^2 mean(w dy x)),
/// dweight = sum over rows of dy x r.
RmsNormGradients rmsnorm_backward_reference(const RmsNormShape& shape, const std::vector<double>& x,
                                            const std::vector<double>& weight,
                                            const std::vector<double>& dy);

}  // namespace longhaul::kernels
