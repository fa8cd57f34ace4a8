#pragma once
// Device-to-device copy: what every memory-bound kernel's rate is held against.

#include <cstddef>

#include <cuda_runtime.h>

namespace longhaul::kernels {

/// out[i] = in[i] for `vectors` of 16 bytes, grid-stride.
__global__ void copy_kernel(const uint4* __restrict__ in, uint4* __restrict__ out,
                            std::size_t vectors) {
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (; i < vectors; i += step) out[i] = in[i];
}

}  // namespace longhaul::kernels
