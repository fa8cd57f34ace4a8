#pragma once
// Cross-entropy on the GPU.

#include <cstddef>
#include <cstdint>

#include "kernels/common/bfloat16.h"
#include "kernels/common/stream.h"
#include "kernels/cross_entropy/reference.h"

namespace longhaul::kernels {

/// Queues cross_entropy_reference(): bf16 logits, int32 targets, fp32 loss, bf16 gradient with the
/// logits' stride; the gradient may be the logits. logits and gradient are 16-byte aligned.
void cross_entropy(const CrossEntropyShape& shape, float gradient_scale, const Bfloat16* logits,
                   const std::int32_t* targets, float* loss, Bfloat16* gradient,
                   Stream stream = {});

/// First half over a cut vocabulary: this rank's partials [rows], to be gathered from all ranks.
void cross_entropy_partials(const CrossEntropyShape& shape, const Bfloat16* logits,
                            const std::int32_t* targets, RowPartial* partials, Stream stream = {});

/// Second half: `partials` of all ranks, [ranks][rows]. The gradient may be the logits.
void cross_entropy_gradient(const CrossEntropyShape& shape, float gradient_scale, int ranks,
                            const RowPartial* partials, const Bfloat16* logits,
                            const std::int32_t* targets, float* loss, Bfloat16* gradient,
                            Stream stream = {});

}  // namespace longhaul::kernels
