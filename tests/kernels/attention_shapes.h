#pragma once
// Calls of attention that tests and checks make.

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/common/random_inputs.h"
#include "kernels/flash_attention/reference.h"

namespace longhaul::kernels::flash {

/// Several sequences in one call; lengths of queries and keys.
inline AttentionShape packed_shape(int head_dim, int heads, int kv_heads, const MaskSpec& mask,
                                   const std::vector<std::pair<int, int>>& lengths) {
  AttentionShape shape = attention_shape(head_dim, 1, heads, kv_heads, 0, 0, mask);
  for (const auto& [q_len, kv_len] : lengths) {
    shape.sequences.push_back({shape.q_len, q_len, shape.kv_len, kv_len});
    shape.q_len += q_len;
    shape.kv_len += kv_len;
  }
  return shape;
}

/// Fresh random operands; the same for the same seed.
inline AttentionInputs attention_inputs(const AttentionShape& shape, std::uint64_t seed) {
  const std::size_t vectors = static_cast<std::size_t>(shape.batch) * shape.q_len * shape.heads;
  const std::size_t keys = static_cast<std::size_t>(shape.batch) * shape.kv_len * shape.kv_heads;
  return {shape, random_bfloat16(vectors * shape.head_dim, 3 * seed),
          random_bfloat16(keys * shape.head_dim, 3 * seed + 1),
          random_bfloat16(keys * shape.head_dim, 3 * seed + 2)};
}

}  // namespace longhaul::kernels::flash
