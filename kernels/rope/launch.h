#pragma once
// Rotary position embedding on the GPU.

#include <cstddef>
#include <cstdint>

#include "kernels/common/bfloat16.h"
#include "kernels/common/stream.h"
#include "kernels/rope/reference.h"

namespace longhaul::kernels {

/// Queues rope_reference() on bf16 x; y may be x. `cosines` and `sines` are the table in fp32,
/// `positions` [tokens]. x, y and the table are 16-byte aligned, and so is every token of x; width
/// is a multiple of 16. Elements between the heads of two tokens are not touched.
void rope(const RopeShape& shape, RopeDirection direction, const float* cosines, const float* sines,
          const std::int32_t* positions, const Bfloat16* x, Bfloat16* y, Stream stream = {});

}  // namespace longhaul::kernels
