#include "kernels/adamw/reference.h"

#include <cmath>

namespace longhaul::kernels {

AdamwState adamw_reference(const AdamwStep& step, const AdamwState& state,
                           const std::vector<double>& gradients) {
  AdamwState next = state;
  const double count = static_cast<double>(step.step);
  const double correction1 = 1.0 - std::pow(step.beta1, count);
  const double correction2 = 1.0 - std::pow(step.beta2, count);
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const double g = step.gradient_scale * gradients[i];
    next.first[i] = step.beta1 * state.first[i] + (1.0 - step.beta1) * g;
    next.second[i] = step.beta2 * state.second[i] + (1.0 - step.beta2) * g * g;
    const double root = std::sqrt(next.second[i] / correction2);
    const double move = next.first[i] / correction1 / (root + step.epsilon);
    next.weights[i] = state.weights[i] * (1.0 - step.learning_rate * step.weight_decay) -
                      step.learning_rate * move;
  }
  return next;
}

}  // namespace longhaul::kernels
