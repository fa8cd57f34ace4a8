#include "kernels/adamw/launch.h"

#include <cmath>
#include <type_traits>

#include "kernels/adamw/kernel.cuh"
#include "kernels/common/require.h"

namespace longhaul::kernels {

namespace {

AdamwFactors adamw_factors(const AdamwStep& step) {
  const double count = static_cast<double>(step.step);
  return {static_cast<float>(step.beta1),
          static_cast<float>(1.0 - step.beta1),
          static_cast<float>(step.beta2),
          static_cast<float>(1.0 - step.beta2),
          static_cast<float>(1.0 - step.learning_rate * step.weight_decay),
          static_cast<float>(step.learning_rate / (1.0 - std::pow(step.beta1, count))),
          static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(step.beta2, count))),
          static_cast<float>(step.epsilon),
          static_cast<float>(step.gradient_scale)};
}

}  // namespace

template <class Gradient>
void adamw(std::size_t count, const AdamwStep& step, const Gradient* gradients, float* weights,
           float* first, float* second, Bfloat16* copy, Stream stream) {
  static_assert(std::is_same_v<Gradient, float> || std::is_same_v<Gradient, Bfloat16>);
  require(step.step >= 1, "adamw: steps are counted from 1");
  launch(grid_for((count + 3) / 4, stream), adamw_kernel<Gradient>, count, adamw_factors(step),
         gradients, weights, first, second, copy);
}

template void adamw(std::size_t, const AdamwStep&, const float*, float*, float*, float*, Bfloat16*,
                    Stream);
template void adamw(std::size_t, const AdamwStep&, const Bfloat16*, float*, float*, float*,
                    Bfloat16*, Stream);

}  // namespace longhaul::kernels
