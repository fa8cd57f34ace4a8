#include "kernels/rmsnorm/reference.h"

#include <cmath>

namespace longhaul::kernels {

namespace {

double root_of_row(const RmsNormShape& shape, const double* x) {
  double squares = 0;
  for (int i = 0; i < shape.width; ++i) squares += x[i] * x[i];
  return 1.0 / std::sqrt(squares / shape.width + static_cast<double>(shape.epsilon));
}

}  // namespace

RmsNormOutput rmsnorm_reference(const RmsNormShape& shape, const std::vector<double>& x,
                                const std::vector<double>& weight) {
  RmsNormOutput output{std::vector<double>(x.size()), std::vector<double>(shape.rows)};
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    const std::int64_t begin = row * shape.width;
    const double root = root_of_row(shape, x.data() + begin);
    output.reciprocal_root[row] = root;
    for (int i = 0; i < shape.width; ++i) output.y[begin + i] = x[begin + i] * root * weight[i];
  }
  return output;
}

RmsNormGradients rmsnorm_backward_reference(const RmsNormShape& shape, const std::vector<double>& x,
                                            const std::vector<double>& weight,
                                            const std::vector<double>& dy) {
  RmsNormGradients gradients{std::vector<double>(x.size()), std::vector<double>(shape.width, 0.0)};
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    const std::int64_t begin = row * shape.width;
    const double root = root_of_row(shape, x.data() + begin);
    double product = 0;
    for (int i = 0; i < shape.width; ++i) product += weight[i] * dy[begin + i] * x[begin + i];
    const double along = root * root * product / shape.width;
    for (int i = 0; i < shape.width; ++i) {
      gradients.dx[begin + i] = root * (weight[i] * dy[begin + i] - x[begin + i] * along);
      gradients.dweight[i] += dy[begin + i] * x[begin + i] * root;
    }
  }
  return gradients;
}

}  // namespace longhaul::kernels
