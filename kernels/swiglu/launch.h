#pragma once
// SwiGLU on the GPU.

#include <cstddef>
#include <cstdint>

#include "kernels/common/bfloat16.h"
#include "kernels/common/stream.h"
#include "kernels/swiglu/reference.h"

namespace longhaul::kernels {

/// Queues swiglu_reference() on bf16. All pointers are 16-byte aligned.
void swiglu_forward(const SwigluShape& shape, const Bfloat16* gate, const Bfloat16* up, Bfloat16* h,
                    Stream stream = {});

/// Queues swiglu_backward_reference() on bf16; dgate and dup have the stride of gate and up, and
/// may be these. All pointers are 16-byte aligned.
void swiglu_backward(const SwigluShape& shape, const Bfloat16* gate, const Bfloat16* up,
                     const Bfloat16* dh, Bfloat16* dgate, Bfloat16* dup, Stream stream = {});

}  // namespace longhaul::kernels
