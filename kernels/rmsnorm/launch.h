#pragma once
// RMSNorm on the GPU.

#include <cstddef>
#include <cstdint>

#include "kernels/common/bfloat16.h"
#include "kernels/common/stream.h"
#include "kernels/rmsnorm/reference.h"

namespace longhaul::kernels {

/// Widest row: 4 packs of 8 in each of 512 threads.
inline constexpr int rmsnorm_widest = 16384;

/// Teams of the backward kernel: rows of `partials`, its workspace of teams x width floats. Each
/// writes its share of dweight once, so there are no more than keep `sms` processors busy.
int rmsnorm_backward_teams(const RmsNormShape& shape, int sms);

/// Queues rmsnorm_reference() on bf16 x and weight; y is bf16, the roots are fp32. All pointers but
/// the roots' are 16-byte aligned; width is a multiple of 8 up to rmsnorm_widest.
void rmsnorm_forward(const RmsNormShape& shape, const Bfloat16* x, const Bfloat16* weight,
                     Bfloat16* y, float* reciprocal_root, Stream stream = {});

/// Queues rmsnorm_backward_reference(): dx bf16, dweight fp32 [width]. `reciprocal_root` is the
/// forward's; `partials` is workspace of rmsnorm_backward_teams(shape, sms) x width floats.
void rmsnorm_backward(const RmsNormShape& shape, const Bfloat16* x, const Bfloat16* weight,
                      const float* reciprocal_root, const Bfloat16* dy, Bfloat16* dx,
                      float* dweight, float* partials, int sms, Stream stream = {});

}  // namespace longhaul::kernels
