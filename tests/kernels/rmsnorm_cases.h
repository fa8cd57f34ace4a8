#pragma once
// RMSNorm against its reference.

#include <cmath>

#include "kernels/common/random_inputs.h"
#include "kernels/rmsnorm/launch.h"
#include "tests/kernels/bounds.h"
#include "tests/kernels/buffer.h"

namespace longhaul::kernels {

/// A thread adds at most 32 products, then 10 steps of tree sums: 64 units cover a row's sum, with
/// the mean, the root (2 ulp) and the products of a result.
inline constexpr double rmsnorm_sum_error = 64 * fp32_unit;

struct RmsNormCase {
  RmsNormShape shape;
  std::vector<Bfloat16> x, weight, dy;

  RmsNormCase(const RmsNormShape& wanted, std::uint64_t seed)
      : shape(wanted),
        x(random_bfloat16(shape.rows * shape.width, seed, 2.0f)),
        weight(random_bfloat16(shape.width, seed + 1)),
        dy(random_bfloat16(shape.rows * shape.width, seed + 2)) {}
};

/// y: one rounding to bf16 on top of the fp32 arithmetic; the roots: fp32 arithmetic.
inline double rmsnorm_forward_excess(const RmsNormCase& of, Buffer<float>& roots) {
  const RmsNormOutput wanted = rmsnorm_reference(of.shape, to_doubles(of.x), to_doubles(of.weight));
  const Buffer<Bfloat16> x(of.x);
  const Buffer<Bfloat16> weight(of.weight);
  Buffer<Bfloat16> y(of.x.size());
  rmsnorm_forward(of.shape, x.data(), weight.data(), y.data(), roots.data());
  const double y_share = worst_share(y.download(), wanted.y, [&](std::size_t i) {
    return std::abs(wanted.y[i]) * (bf16_unit + 2 * rmsnorm_sum_error);
  });
  const double root_share =
      worst_share(roots.download(), wanted.reciprocal_root,
                  [&](std::size_t i) { return wanted.reciprocal_root[i] * rmsnorm_sum_error; });
  return y.overran() || roots.overran() ? 1e9 : std::max(y_share, root_share);
}

/// Sums of magnitudes, which the errors of sums with signs are relative to.
struct RmsNormMagnitudes {
  std::vector<double> dx;       // r |w dy| + |x| r^3 mean |w dy x|
  std::vector<double> dweight;  // sum over rows of |dy x r|
};

inline RmsNormMagnitudes rmsnorm_magnitudes(const RmsNormCase& of,
                                            const std::vector<double>& roots) {
  const int width = of.shape.width;
  RmsNormMagnitudes sums{std::vector<double>(of.x.size()), std::vector<double>(width, 0.0)};
  const auto magnitude = [](Bfloat16 value) { return std::abs(widened(value)); };
  for (std::int64_t row = 0; row < of.shape.rows; ++row) {
    double product = 0;
    for (int i = 0; i < width; ++i) {
      const std::size_t at = row * width + i;
      product += magnitude(of.weight[i]) * magnitude(of.dy[at]) * magnitude(of.x[at]);
      sums.dweight[i] += magnitude(of.dy[at]) * magnitude(of.x[at]) * roots[row];
    }
    const double along = roots[row] * roots[row] * product / width;
    for (int i = 0; i < width; ++i) {
      const std::size_t at = row * width + i;
      sums.dx[at] = roots[row] *
                    (magnitude(of.weight[i]) * magnitude(of.dy[at]) + magnitude(of.x[at]) * along);
    }
  }
  return sums;
}

/// dweight is a sum over all rows in fp32, in an order of its own: one unit per row at most.
inline double rmsnorm_excess(const RmsNormShape& shape, int sms, std::uint64_t seed) {
  const RmsNormCase of(shape, seed);
  Buffer<float> roots(shape.rows);
  const double forward = rmsnorm_forward_excess(of, roots);
  const RmsNormGradients wanted =
      rmsnorm_backward_reference(shape, to_doubles(of.x), to_doubles(of.weight), to_doubles(of.dy));
  const RmsNormMagnitudes sums = rmsnorm_magnitudes(of, to_doubles(roots.download()));
  const Buffer<Bfloat16> x(of.x), weight(of.weight), dy(of.dy);
  Buffer<Bfloat16> dx(of.x.size());
  Buffer<float> dweight(shape.width);
  Buffer<float> partials(static_cast<std::size_t>(rmsnorm_backward_teams(shape, sms)) *
                         shape.width);
  rmsnorm_backward(shape, x.data(), weight.data(), roots.data(), dy.data(), dx.data(),
                   dweight.data(), partials.data(), sms);
  const double dx_share = worst_share(dx.download(), wanted.dx, [&](std::size_t i) {
    return bf16_unit * std::abs(wanted.dx[i]) + 2 * rmsnorm_sum_error * sums.dx[i];
  });
  const double dweight_share = worst_share(dweight.download(), wanted.dweight, [&](std::size_t i) {
    return (static_cast<double>(shape.rows) + 128) * fp32_unit * sums.dweight[i];
  });
  const bool overran = dx.overran() || dweight.overran() || partials.overran();
  return overran ? 1e9 : std::max({forward, dx_share, dweight_share});
}

}  // namespace longhaul::kernels
