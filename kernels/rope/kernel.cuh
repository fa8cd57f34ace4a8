#pragma once
// Rotary position embedding, forward and backward, in place or not.

#include <cstdint>

#include "kernels/common/pack.h"
#include "kernels/common/simt.h"
#include "kernels/rope/reference.h"

namespace longhaul::kernels {

/// Turns eight pairs: `first` and `second` hold the halves of eight pairs.
__device__ __forceinline__ void rotate_pairs(const float (&cosines)[pack_size],
                                             const float (&sines)[pack_size], float sign,
                                             float (&first)[pack_size],
                                             float (&second)[pack_size]) {
  LONGHAUL_UNROLL
  for (int i = 0; i < pack_size; ++i) {
    const float a = first[i];
    const float b = second[i];
    const float sine = sign * sines[i];
    first[i] = a * cosines[i] - b * sine;
    second[i] = b * cosines[i] + a * sine;
  }
}

/// Eight floats of a table.
__device__ __forceinline__ void load_eight(const float* from, float (&values)[pack_size]) {
  const Quad low = load_aligned<Quad>(from);
  const Quad high = load_aligned<Quad>(from + 4);
  LONGHAUL_UNROLL
  for (int i = 0; i < 4; ++i) {
    values[i] = low.values[i];
    values[i + 4] = high.values[i];
  }
}

/// A block takes a token, a thread eight pairs of one of its heads. `sign` is -1 for the backward.
__global__ void __launch_bounds__(256)
    rope_kernel(RopeShape shape, float sign, const float* cosines, const float* sines,
                const std::int32_t* positions, const Bfloat16* x, Bfloat16* y) {
  const unsigned half = static_cast<unsigned>(shape.width) / 2;
  const unsigned packs = half / pack_size;
  const unsigned items = static_cast<unsigned>(shape.heads) * packs;
  for (std::int64_t token = blockIdx.x; token < shape.tokens; token += gridDim.x) {
    const std::int64_t row = static_cast<std::int64_t>(positions[token]) * half;
    for (unsigned item = threadIdx.x; item < items; item += blockDim.x) {
      const unsigned head = item / packs;
      const unsigned pair = (item - head * packs) * pack_size;
      const std::int64_t at =
          token * shape.stride() + static_cast<std::int64_t>(head) * shape.width + pair;
      float cosine[pack_size], sine[pack_size], first[pack_size], second[pack_size];
      load_eight(cosines + row + pair, cosine);
      load_eight(sines + row + pair, sine);
      unpack(load_aligned<Pack>(x + at), first);
      unpack(load_aligned<Pack>(x + at + half), second);
      rotate_pairs(cosine, sine, sign, first, second);
      store_aligned(y + at, pack(first));
      store_aligned(y + at + half, pack(second));
    }
  }
}

}  // namespace longhaul::kernels
