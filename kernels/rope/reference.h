#pragma once
// Double-precision reference of rotary position embedding.

#include <cstdint>
#include <vector>

#include "kernels/common/host_device.h"

namespace longhaul::kernels {

/// Heads of `width` elements per token; element i < width/2 and i + width/2 are the pair that is
/// turned (the half-split order of Llama in Hugging Face transformers and of Megatron-LM; RoPE: Su et
/// al., arXiv 2104.09864).
struct RopeShape {
  std::int64_t tokens = 0;
  int heads = 1;
  int width = 16;                 ///< head dimension, a multiple of 16
  std::int64_t token_stride = 0;  ///< elements from a token's heads to the next token's; 0: dense

  LONGHAUL_HOST_DEVICE std::int64_t stride() const {
    return token_stride == 0 ? static_cast<std::int64_t>(heads) * width : token_stride;
  }
};

/// Table of angles, [positions][width/2]: position p turns pair i by p base^(-2 i / width).
struct RopeTable {
  std::vector<float> cosines;
  std::vector<float> sines;
};
RopeTable make_rope_table(int positions, int width, double base);

/// Which way: the backward of a rotation is the rotation back.
enum class RopeDirection { forward, backward };

/// (a, b) -> (a cos - b sin, b cos + a sin) with the table's row positions[token]; backward: the sine
/// negated. Elements of `x` between the heads of two tokens stay as they are.
std::vector<double> rope_reference(const RopeShape& shape, RopeDirection direction,
                                   const RopeTable& table,
                                   const std::vector<std::int32_t>& positions,
                                   const std::vector<double>& x);

}  // namespace longhaul::kernels
