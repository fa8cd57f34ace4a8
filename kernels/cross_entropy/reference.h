#pragma once
// Double-precision reference of the loss of a language model, also with the vocabulary cut over ranks.

#include <cstdint>
#include <vector>

namespace longhaul::kernels {

/// Rows (tokens) of logits over a vocabulary, or over the part of it that a rank has.
struct CrossEntropyShape {
  std::int64_t rows = 0;
  std::int32_t vocabulary = 0;        ///< columns of this rank; any number
  std::int32_t first = 0;             ///< the vocabulary's index of column 0
  std::int64_t stride = 0;            ///< elements from a row to the next: a multiple of 8, >= vocabulary
  std::int32_t ignored_target = -100; ///< a row with this target has neither loss nor gradient
};

/// What a rank knows of a row: with m the largest of its logits, the sum of e^(logit - m), and the
/// target's logit, 0 on ranks that do not have it. No columns: m = -inf, sum 0.
struct RowPartial {
  float largest;
  float sum;
  float target;
};

/// Loss [rows] and its gradient at the logits, [rows][vocabulary] dense: lse - logit[target] and
/// gradient_scale (softmax - onehot(target)).
struct CrossEntropyResult {
  std::vector<double> loss;
  std::vector<double> gradient;
};
CrossEntropyResult cross_entropy_reference(const CrossEntropyShape& shape, double gradient_scale,
                                           const std::vector<double>& logits,
                                           const std::vector<std::int32_t>& targets);

}  // namespace longhaul::kernels
