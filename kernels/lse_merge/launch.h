#pragma once
// Merges two partial results of attention on the GPU.

#include <cstddef>
#include <cstdint>

#include "kernels/common/bfloat16.h"
#include "kernels/common/stream.h"
#include "kernels/lse_merge/reference.h"

namespace longhaul::kernels {

/// Queues the merge of `block` (bf16) into `running` (fp32), with their log-sum-exps, in place. A
/// running lse of -inf makes the running output count nothing, so a fresh accumulator needs only
/// its lse filled. Outputs are 16-byte aligned; the width is a multiple of 8; fewer than 2^30 rows.
void lse_merge(const LseMergeShape& shape, float* running, float* running_lse,
               const Bfloat16* block, const float* block_lse, Stream stream = {});

}  // namespace longhaul::kernels
