#pragma once
// Fresh random inputs for checks and benches.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/common/bfloat16.h"

namespace longhaul::kernels {

/// `count` normal numbers with standard deviation `deviation`; the same for the same seed.
/// Random normal data, not zeros: on Hopper a product of zeros draws less power and runs up to
/// 15 % faster, so constant inputs would flatter every bench.
std::vector<float> random_normal(std::size_t count, std::uint64_t seed, float deviation = 1.0f);

/// The same numbers, rounded to bfloat16.
std::vector<Bfloat16> random_bfloat16(std::size_t count, std::uint64_t seed,
                                      float deviation = 1.0f);

}  // namespace longhaul::kernels
