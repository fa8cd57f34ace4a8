#include "kernels/cross_entropy/reference.h"

#include <algorithm>
#include <cmath>

namespace longhaul::kernels {

CrossEntropyResult cross_entropy_reference(const CrossEntropyShape& shape, double gradient_scale,
                                           const std::vector<double>& logits,
                                           const std::vector<std::int32_t>& targets) {
  const std::size_t columns = shape.vocabulary;
  CrossEntropyResult result{std::vector<double>(shape.rows, 0.0),
                            std::vector<double>(shape.rows * columns, 0.0)};
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    if (targets[row] == shape.ignored_target) continue;
    const double* from = logits.data() + row * shape.stride;
    const double largest = *std::max_element(from, from + columns);
    double sum = 0;
    for (std::size_t i = 0; i < columns; ++i) sum += std::exp(from[i] - largest);
    const std::size_t target = targets[row] - shape.first;
    result.loss[row] = largest + std::log(sum) - from[target];
    for (std::size_t i = 0; i < columns; ++i) {
      const double share = std::exp(from[i] - largest) / sum - (i == target ? 1.0 : 0.0);
      result.gradient[row * columns + i] = gradient_scale * share;
    }
  }
  return result;
}

}  // namespace longhaul::kernels
