#pragma once
// Device-to-device copies: plain, with a change of precision, with rows transposed.

#include <cstddef>
#include <cstdint>

#include "kernels/common/bfloat16.h"
#include "kernels/common/stream.h"
#include "kernels/copy/reference.h"

namespace longhaul::kernels {

/// Queues a copy of `bytes` bytes. Both pointers are 16-byte aligned.
void copy(std::size_t bytes, const void* from, void* to, Stream stream = {});

/// Queues the rounding of `count` fp32 to bf16, to nearest even. Pointers are 16-byte aligned.
void round_to_bfloat16(std::size_t count, const float* from, Bfloat16* to, Stream stream = {});

/// Queues the conversion of `count` bf16 to fp32, exact. Pointers are 16-byte aligned.
void widen_to_float(std::size_t count, const Bfloat16* from, float* to, Stream stream = {});

/// Queues transpose_rows_reference(). Pointers are 16-byte aligned; fewer than 2^30 packs of 8.
void transpose_rows(const RowTransposition& shape, const Bfloat16* from, Bfloat16* to,
                    Stream stream = {});

}  // namespace longhaul::kernels
