#pragma once
// A step of AdamW on the GPU.

#include <cstddef>
#include <cstdint>

#include "kernels/adamw/reference.h"
#include "kernels/common/bfloat16.h"
#include "kernels/common/stream.h"

namespace longhaul::kernels {

/// Queues adamw_reference() on `count` parameters, in place; `copy` gets the new weights in bf16.
/// Gradient is float or Bfloat16. All pointers are 16-byte aligned.
template <class Gradient>
void adamw(std::size_t count, const AdamwStep& step, const Gradient* gradients, float* weights,
           float* first, float* second, Bfloat16* copy, Stream stream = {});

}  // namespace longhaul::kernels
