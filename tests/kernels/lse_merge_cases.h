#pragma once
// The merge of two partial attention results, against its reference.

#include <cmath>
#include <limits>

#include "kernels/common/random_inputs.h"
#include "kernels/lse_merge/launch.h"
#include "tests/kernels/bounds.h"
#include "tests/kernels/buffer.h"

namespace longhaul::kernels {

/// Log-sum-exps of a partial result, `empty_every`-th of them -inf from `empty_first` on.
inline std::vector<float> some_lse(std::size_t rows, std::uint64_t seed, std::size_t empty_first,
                                   std::size_t empty_every) {
  auto lse = random_normal(rows, seed, 6.0f);
  for (std::size_t i = empty_first; i < rows; i += empty_every) {
    lse[i] = -std::numeric_limits<float>::infinity();
  }
  return lse;
}

/// Worst share of the bound: with weights w1 + w2 = 1 and d the difference of the lse, each weight
/// has a relative error of exp (2 + 1.2 d units of 2^-23, and d 2^-24 of its argument), of the sum
/// and of the quotient; the output (w1 |o1| + w2 |o2|) times that, and lse 10 units and its own
/// rounding. Rows that are empty on one side hold NaN there, rows empty on both give 0.
inline double merge_excess(const LseMergeShape& shape, std::uint64_t seed) {
  const std::size_t rows = shape.rows();
  const std::size_t count = rows * shape.width;
  auto running = random_normal(count, seed);
  auto block = random_bfloat16(count, seed + 1);
  const auto running_lse = some_lse(rows, seed + 2, 0, 3);
  const auto block_lse = some_lse(rows, seed + 3, 0, 5);
  for (std::size_t row = 0; row < rows; ++row) {
    const std::size_t at = shape.lse_index(static_cast<std::uint32_t>(row));
    for (std::size_t i = row * shape.width; i < (row + 1) * shape.width; ++i) {
      if (std::isinf(running_lse[at])) running[i] = std::numeric_limits<float>::quiet_NaN();
      if (std::isinf(block_lse[at])) block[i] = {0x7fff};
    }
  }
  const PartialAttention one{to_doubles(running), to_doubles(running_lse)};
  const PartialAttention other{to_doubles(block), to_doubles(block_lse)};
  const PartialAttention wanted = merge_reference(shape, one, other);
  Buffer<float> output(running);
  Buffer<float> lse(running_lse);
  const Buffer<Bfloat16> block_output(block);
  const Buffer<float> block_sums(block_lse);
  lse_merge(shape, output.data(), lse.data(), block_output.data(), block_sums.data());
  const auto output_bound = [&](std::size_t i) {
    const std::size_t at = shape.lse_index(static_cast<std::uint32_t>(i / shape.width));
    const double first = std::exp(one.lse[at] - wanted.lse[at]);
    const double second = std::exp(other.lse[at] - wanted.lse[at]);
    double sum = 0;
    if (first > 0) sum += first * std::abs(one.output[i]);
    if (second > 0) sum += second * std::abs(other.output[i]);
    const double apart = std::abs(one.lse[at] - other.lse[at]);
    return 2 * fp32_unit * (8 + 3 * (std::isfinite(apart) ? apart : 0.0)) * sum;
  };
  const auto lse_bound = [&](std::size_t i) {
    return 2 * fp32_unit * (10 + std::abs(wanted.lse[i]));
  };
  const double guards = output.overran() || lse.overran() ? 1e9 : 0;
  return std::max({guards, worst_share(output.download(), wanted.output, output_bound),
                   worst_share(lse.download(), wanted.lse, lse_bound)});
}

}  // namespace longhaul::kernels
