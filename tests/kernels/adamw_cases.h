#pragma once
// Steps of AdamW against their reference.

#include <cmath>

#include "kernels/adamw/launch.h"
#include "kernels/common/random_inputs.h"
#include "tests/kernels/bounds.h"
#include "tests/kernels/buffer.h"

namespace longhaul::kernels {

/// Random weights and moments, of a run that has been under way.
struct AdamwCase {
  AdamwStep step;
  std::vector<float> weights, first, second;

  AdamwCase(std::size_t count, std::int64_t number, std::uint64_t seed)
      : weights(random_normal(count, seed)),
        first(random_normal(count, seed + 1, 0.01f)),
        second(random_normal(count, seed + 2, 0.01f)) {
    step.step = number;
    step.gradient_scale = 0.37;
    for (float& value : second) value *= value;
    if (number == 1) {
      std::fill(first.begin(), first.end(), 0.0f);
      std::fill(second.begin(), second.end(), 0.0f);
    }
  }
};

inline std::vector<float> make_gradients(std::size_t count, std::uint64_t seed, float) {
  return random_normal(count, seed, 0.02f);
}
inline std::vector<Bfloat16> make_gradients(std::size_t count, std::uint64_t seed, Bfloat16) {
  return random_bfloat16(count, seed, 0.02f);
}

/// Each of m' and v' is the sum of two terms with 4 roundings each, those of the rounded factors
/// counted; w' = keep w - rate q, where q = m' / (root + epsilon) has the errors of m' and v' and 6
/// more. The bf16 copy is the new fp32 weight, rounded.
template <class Gradient>
double adamw_excess(std::size_t count, std::int64_t number, std::uint64_t seed) {
  const AdamwCase of(count, number, seed);
  const auto gradients = make_gradients(count, seed + 3, Gradient{});
  const AdamwState before{to_doubles(of.weights), to_doubles(of.first), to_doubles(of.second)};
  const auto wide = to_doubles(gradients);
  const AdamwState wanted = adamw_reference(of.step, before, wide);
  const Buffer<Gradient> given(gradients);
  Buffer<float> weights(of.weights), first(of.first), second(of.second);
  Buffer<Bfloat16> copied(count);
  adamw(count, of.step, given.data(), weights.data(), first.data(), second.data(), copied.data());
  const auto first_bound = [&](std::size_t i) {
    const double g = of.step.gradient_scale * wide[i];
    return 4 * fp32_unit * (std::abs(before.first[i]) + std::abs((1 - of.step.beta1) * g));
  };
  const auto weight_bound = [&](std::size_t i) {
    const double age = static_cast<double>(number);
    const double root = std::sqrt(wanted.second[i] / (1 - std::pow(of.step.beta2, age)));
    const double rate = of.step.learning_rate / (1 - std::pow(of.step.beta1, age));
    const double error = first_bound(i) + 12 * fp32_unit * std::abs(wanted.first[i]);
    return rate * error / (root + of.step.epsilon) + 4 * fp32_unit * std::abs(before.weights[i]);
  };
  const auto new_weights = weights.download();
  const auto copy = copied.download();
  for (std::size_t i = 0; i < count; ++i) {
    if (copy[i].bits != to_bfloat16(new_weights[i]).bits) return 1e9;
  }
  if (weights.overran() || first.overran() || second.overran() || copied.overran()) return 1e9;
  return std::max({worst_share(new_weights, wanted.weights, weight_bound),
                   worst_share(first.download(), wanted.first, first_bound),
                   worst_share(second.download(), wanted.second,
                               [&](std::size_t i) { return 6 * fp32_unit * wanted.second[i]; })});
}

}  // namespace longhaul::kernels
