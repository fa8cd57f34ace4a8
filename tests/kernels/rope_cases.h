#pragma once
// Rotary position embedding against its reference.

#include <cmath>

#include "kernels/common/random_inputs.h"
#include "kernels/rope/launch.h"
#include "tests/kernels/bounds.h"
#include "tests/kernels/buffer.h"

namespace longhaul::kernels {

/// Positions as a rank of a zigzag ring has them: an early chunk and a late one.
inline std::vector<std::int32_t> zigzag_positions(std::int64_t tokens) {
  std::vector<std::int32_t> positions;
  for (std::int64_t i = 0; i < tokens; ++i) {
    positions.push_back(static_cast<std::int32_t>(i < tokens / 2 ? 3 + i : 2 * tokens + i));
  }
  return positions;
}

/// One rounding to bf16, and 3 of fp32 on each of two products. What lies between two tokens' heads
/// must stay as it was: there the reference is the input and the bound nothing.
inline double rope_excess(const RopeShape& shape, RopeDirection direction, bool in_place,
                          std::uint64_t seed) {
  const std::size_t count = shape.tokens * shape.stride();
  const auto x = random_bfloat16(count, seed);
  const auto positions = zigzag_positions(shape.tokens);
  const auto table = make_rope_table(static_cast<int>(3 * shape.tokens + 3), shape.width, 500000.0);
  const auto wide = to_doubles(x);
  const auto wanted = rope_reference(shape, direction, table, positions, wide);
  Buffer<Bfloat16> input(x);
  Buffer<Bfloat16> output(x);
  const Buffer<float> cosines(table.cosines), sines(table.sines);
  const Buffer<std::int32_t> places(positions);
  rope(shape, direction, cosines.data(), sines.data(), places.data(),
       in_place ? output.data() : input.data(), output.data());
  const double share = worst_share(output.download(), wanted, [&](std::size_t i) {
    const std::int64_t column = static_cast<std::int64_t>(i) % shape.stride();
    if (column >= static_cast<std::int64_t>(shape.heads) * shape.width) return 0.0;
    const bool low = column % shape.width < shape.width / 2;
    const double other = wide[low ? i + shape.width / 2 : i - shape.width / 2];
    return bf16_unit * std::abs(wanted[i]) + 4 * fp32_unit * (std::abs(wide[i]) + std::abs(other));
  });
  return output.overran() ? 1e9 : share;
}

}  // namespace longhaul::kernels
