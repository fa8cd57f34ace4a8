#pragma once
// Items dealt to the threads of a grid one by one.

#include <algorithm>
#include <cstddef>

#include "kernels/common/simt.h"

namespace longhaul::kernels {

/// Deals `items` to the threads of the grid, neighbours to neighbours.
struct GridStride {
  __device__ __forceinline__ static std::size_t first() {
    return static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  }
  __device__ __forceinline__ static std::size_t step() {
    return static_cast<std::size_t>(gridDim.x) * blockDim.x;
  }
};

/// A grid of one thread per item; larger than 2^22 blocks, each thread takes several.
inline Grid grid_for(std::size_t items, Stream stream, unsigned threads = 256) {
  const std::size_t blocks = (items + threads - 1) / threads;
  return {static_cast<unsigned>(std::min<std::size_t>(blocks, 1U << 22)), threads, 0, stream};
}

}  // namespace longhaul::kernels
