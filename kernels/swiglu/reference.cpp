#include "kernels/swiglu/reference.h"

#include <cmath>

namespace longhaul::kernels {

namespace {

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

}  // namespace

std::vector<double> swiglu_reference(const SwigluShape& shape, const double* gate,
                                     const double* up) {
  std::vector<double> h(static_cast<std::size_t>(shape.rows) * shape.width);
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    for (int i = 0; i < shape.width; ++i) {
      const double g = gate[row * shape.input_stride() + i];
      h[row * shape.width + i] = g * sigmoid(g) * up[row * shape.input_stride() + i];
    }
  }
  return h;
}

SwigluGradients swiglu_backward_reference(const SwigluShape& shape, const double* gate,
                                          const double* up, const std::vector<double>& dh) {
  SwigluGradients gradients{std::vector<double>(dh.size()), std::vector<double>(dh.size())};
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    for (int i = 0; i < shape.width; ++i) {
      const double g = gate[row * shape.input_stride() + i];
      const double u = up[row * shape.input_stride() + i];
      const std::int64_t at = row * shape.width + i;
      gradients.dgate[at] = dh[at] * u * sigmoid(g) * (1.0 + g * (1.0 - sigmoid(g)));
      gradients.dup[at] = dh[at] * g * sigmoid(g);
    }
  }
  return gradients;
}

}  // namespace longhaul::kernels
