#pragma once
// SwiGLU against its reference.

#include <cmath>

#include "kernels/common/random_inputs.h"
#include "kernels/swiglu/launch.h"
#include "tests/kernels/bounds.h"
#include "tests/kernels/buffer.h"

namespace longhaul::kernels {

/// Gate and up as halves of fused rows, or apart. The sigmoid has a relative error of exp (2 + 1.2
/// |g| units of 2^-23), sum and quotient; the results one rounding to bf16 more. 1 + g (1 - s) may
/// cancel, so the error of dgate is relative to |dh up s| (1 + |g|).
inline double swiglu_excess(std::int64_t rows, int width, bool fused, std::uint64_t seed) {
  const SwigluShape shape{rows, width, fused ? 2 * width : 0};
  const std::size_t count = rows * width;
  const auto inputs = random_bfloat16(2 * count, seed, 4.0f);
  const auto dh = random_bfloat16(count, seed + 1);
  const std::size_t up_at = fused ? width : count;
  const auto wide = to_doubles(inputs);
  const auto wide_dh = to_doubles(dh);
  const auto h = swiglu_reference(shape, wide.data(), wide.data() + up_at);
  const auto wanted = swiglu_backward_reference(shape, wide.data(), wide.data() + up_at, wide_dh);
  std::vector<double> gradients(2 * count), bounds(2 * count), h_bounds(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t at = i / width * shape.input_stride() + i % width;
    const double g = wide[at];
    const double relative = 4 * fp32_unit * (4 + std::abs(g));
    const double share = 1 / (1 + std::exp(-g));
    gradients[at] = wanted.dgate[i];
    gradients[at + up_at] = wanted.dup[i];
    bounds[at] = bf16_unit * std::abs(wanted.dgate[i]) +
                 relative * (1 + std::abs(g)) * std::abs(wide_dh[i] * wide[at + up_at] * share);
    bounds[at + up_at] = std::abs(wanted.dup[i]) * (bf16_unit + relative);
    h_bounds[i] = std::abs(h[i]) * (bf16_unit + relative);
  }
  Buffer<Bfloat16> input(inputs);
  const Buffer<Bfloat16> upstream(dh);
  Buffer<Bfloat16> output(count), gradient(2 * count);
  swiglu_forward(shape, input.data(), input.data() + up_at, output.data());
  swiglu_backward(shape, input.data(), input.data() + up_at, upstream.data(), gradient.data(),
                  gradient.data() + up_at);
  const double forward =
      worst_share(output.download(), h, [&](std::size_t i) { return h_bounds[i]; });
  const double backward =
      worst_share(gradient.download(), gradients, [&](std::size_t i) { return bounds[i]; });
  return output.overran() || gradient.overran() ? 1e9 : std::max(forward, backward);
}

}  // namespace longhaul::kernels
