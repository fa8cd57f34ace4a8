#pragma once
// Device-to-device copy by a kernel.

#include <cstddef>

#include <cuda_runtime_api.h>

namespace longhaul::kernels {

/// Copies `bytes` (a multiple of 16) from `in` to `out`, both aligned to 16, on `stream`.
/// Throws std::invalid_argument where size or alignment do not fit; CudaError if the launch fails.
void copy(const void* in, void* out, std::size_t bytes, cudaStream_t stream);

}  // namespace longhaul::kernels
