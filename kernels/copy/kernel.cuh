#pragma once
// Copies: plain, between fp32 and bf16, and with rows transposed for an all-to-all.

#include <cstddef>
#include <cstdint>

#include "kernels/common/grid_stride.h"
#include "kernels/common/pack.h"
#include "kernels/common/simt.h"
#include "kernels/copy/reference.h"

namespace longhaul::kernels {

__global__ void __launch_bounds__(256)
    copy_kernel(std::size_t bytes, const unsigned char* from, unsigned char* to) {
  constexpr std::size_t vector = sizeof(Pack);
  for (std::size_t i = GridStride::first(); i * vector < bytes; i += GridStride::step()) {
    const std::size_t at = i * vector;
    if (at + vector <= bytes) {
      store_aligned(to + at, load_aligned<Pack>(from + at));
    } else {
      for (std::size_t byte = at; byte < bytes; ++byte) to[byte] = from[byte];
    }
  }
}

__global__ void __launch_bounds__(256)
    round_kernel(std::size_t count, const float* from, Bfloat16* to) {
  for (std::size_t i = GridStride::first(); i * pack_size < count; i += GridStride::step()) {
    const std::size_t at = i * pack_size;
    if (at + pack_size <= count) {
      const Quad low = load_aligned<Quad>(from + at);
      const Quad high = load_aligned<Quad>(from + at + 4);
      store_aligned(to + at, Pack{{pack_pair(low.values[0], low.values[1]),
                                   pack_pair(low.values[2], low.values[3]),
                                   pack_pair(high.values[0], high.values[1]),
                                   pack_pair(high.values[2], high.values[3])}});
    } else {
      for (std::size_t e = at; e < count; ++e) store_scalar(to + e, from[e]);
    }
  }
}

__global__ void __launch_bounds__(256)
    widen_kernel(std::size_t count, const Bfloat16* from, float* to) {
  for (std::size_t i = GridStride::first(); i * pack_size < count; i += GridStride::step()) {
    const std::size_t at = i * pack_size;
    if (at + pack_size <= count) {
      float values[pack_size];
      unpack(load_aligned<Pack>(from + at), values);
      store_aligned(to + at, Quad{{values[0], values[1], values[2], values[3]}});
      store_aligned(to + at + 4, Quad{{values[4], values[5], values[6], values[7]}});
    } else {
      for (std::size_t e = at; e < count; ++e) to[e] = load_scalar(from + e);
    }
  }
}

// Reads are contiguous, writes in whole rows. 32-bit divisions: 64-bit ones cost more than memory.
__global__ void __launch_bounds__(256)
    transpose_rows_kernel(RowTransposition shape, const Bfloat16* from, Bfloat16* to) {
  const std::uint32_t packs = shape.width / pack_size;
  const std::uint32_t items = shape.outer * shape.inner * packs;
  const std::uint32_t step = gridDim.x * blockDim.x;
  for (std::uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < items; i += step) {
    const std::uint32_t row = i / packs;
    const std::uint32_t o = row / shape.inner;
    const std::uint32_t moved = (row - o * shape.inner) * shape.outer + o;
    const std::size_t target = static_cast<std::size_t>(moved) * packs + (i - row * packs);
    store_aligned(to + target * pack_size,
                  load_aligned<Pack>(from + static_cast<std::size_t>(i) * pack_size));
  }
}

}  // namespace longhaul::kernels
