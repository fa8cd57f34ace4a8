// Which tile a library with a published rule launches a matrix product with; docs/models/gemm.md.
#pragma once

#include <cstdint>

#include "sim/cost/kernel.h"

namespace longhaul {

/// How the tile of a product is found. `fastest`: the library knows which one is. The others are
/// DeepGEMM's rules (github.com/deepseek-ai/DeepGEMM, csrc/jit_kernels/heuristics/sm90.hpp and
/// sm100.hpp of 2026) for products with a scale for 1 x 128 of A and 128 x 128 of B.
enum class BlockRule { fastest, deep_gemm_hopper, deep_gemm_blackwell };

/// A tile and what shares its loads.
struct BlockChoice {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t sharing_columns = 1;  ///< thread blocks along m that load one tile of B together
  std::int64_t sharing_rows = 1;     ///< along n, one tile of A
  std::int64_t tiles = 0;            ///< of the product
  std::int64_t waves = 0;            ///< whole ones, over all SMs
};

/// Hopper: the tile with the fewest cycles of L1 and L2, by the library's own estimate (128 and 47
/// bytes a cycle and SM, whole waves; no sharing in a single wave). Blackwell: a single wave before
/// all, then pairs of blocks, fewest waves, fullest last wave, smallest tile. `rule` not `fastest`.
BlockChoice choose_block(BlockRule rule, const GemmShape& shape, int sms);

}  // namespace longhaul
