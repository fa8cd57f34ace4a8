#include "kernels/lse_merge/reference.h"

#include <algorithm>
#include <cmath>

namespace longhaul::kernels {

PartialAttention merge_reference(const LseMergeShape& shape, const PartialAttention& one,
                                 const PartialAttention& other) {
  PartialAttention merged{std::vector<double>(one.output.size(), 0.0), one.lse};
  for (std::uint32_t row = 0; row < shape.rows(); ++row) {
    const std::size_t at = shape.lse_index(row);
    const double largest = std::max(one.lse[at], other.lse[at]);
    if (std::isinf(largest)) continue;  // neither saw a key: output 0, lse -inf
    const double first = std::exp(one.lse[at] - largest);
    const double second = std::exp(other.lse[at] - largest);
    const std::size_t begin = static_cast<std::size_t>(row) * shape.width;
    for (std::size_t i = begin; i < begin + shape.width; ++i) {
      const double sum = (first > 0 ? first * one.output[i] : 0.0) +
                         (second > 0 ? second * other.output[i] : 0.0);
      merged.output[i] = sum / (first + second);
    }
    merged.lse[at] = largest + std::log(first + second);
  }
  return merged;
}

}  // namespace longhaul::kernels
