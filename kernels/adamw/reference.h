#pragma once
// Double-precision reference of a step of AdamW.

#include <cstdint>
#include <vector>

namespace longhaul::kernels {

/// Hyper-parameters and the number of this step, from 1 (Loshchilov and Hutter, arXiv 1711.05101).
struct AdamwStep {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;
  double gradient_scale = 1.0;  ///< of clipping, or of accumulation; applied first
  std::int64_t step = 1;
};

struct AdamwState {
  std::vector<double> weights;
  std::vector<double> first;   ///< moment: running mean of gradients
  std::vector<double> second;  ///< moment: running mean of their squares
};

/// m' = b1 m + (1 - b1) g; v' = b2 v + (1 - b2) g^2;
/// w' = w (1 - lr decay) - lr (m' / (1 - b1^step)) / (sqrt(v' / (1 - b2^step)) + epsilon).
AdamwState adamw_reference(const AdamwStep& step, const AdamwState& state,
                           const std::vector<double>& gradients);

}  // namespace longhaul::kernels
