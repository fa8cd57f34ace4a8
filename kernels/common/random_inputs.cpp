#include "kernels/common/random_inputs.h"

#include <cmath>
#include <numbers>

namespace longhaul::kernels {

namespace {

// SplitMix64 (Steele, Lea, Flood 2014): a counter made random, so element i needs no history.
std::uint64_t mix(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

// Uniform in (0, 1]: never 0, as its logarithm is taken.
double uniform(std::uint64_t bits) { return (static_cast<double>(bits >> 11) + 1.0) * 0x1p-53; }

// Box and Muller's transformation: one normal number of two uniform ones.
float normal(std::uint64_t seed, std::uint64_t index) {
  const double radius = std::sqrt(-2.0 * std::log(uniform(mix(mix(seed) + 2 * index))));
  const double angle = 2.0 * std::numbers::pi * uniform(mix(mix(seed) + 2 * index + 1));
  return static_cast<float>(radius * std::cos(angle));
}

}  // namespace

std::vector<float> random_normal(std::size_t count, std::uint64_t seed, float deviation) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = deviation * normal(seed, i);
  return values;
}

std::vector<Bfloat16> random_bfloat16(std::size_t count, std::uint64_t seed, float deviation) {
  std::vector<Bfloat16> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = to_bfloat16(deviation * normal(seed, i));
  return values;
}

}  // namespace longhaul::kernels
