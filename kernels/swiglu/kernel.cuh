#pragma once
// SwiGLU, forward and backward.

#include <cstdint>

#include "kernels/common/pack.h"
#include "kernels/common/simt.h"
#include "kernels/swiglu/reference.h"

namespace longhaul::kernels {

/// 1 / (1 + e^-x): 0 and 1 exactly at the ends, never NaN for a finite x. The argument of exp is
/// never positive: e^-x of a large negative x would overflow, and a quotient by it is not defined
/// on the GPU (__fdividef).
__device__ __forceinline__ float sigmoid(float x) {
  const float shrunk = fast_exp(x < 0 ? x : -x);
  return fast_divide(x < 0 ? shrunk : 1.0f, 1.0f + shrunk);
}

__device__ __forceinline__ float swiglu_value(float gate, float up) {
  return gate * sigmoid(gate) * up;
}

/// dh in, gradients of gate and up out.
struct SwigluPair {
  float dgate;
  float dup;
};
__device__ __forceinline__ SwigluPair swiglu_gradients(float gate, float up, float dh) {
  const float share = sigmoid(gate);
  return {dh * up * share * (1.0f + gate * (1.0f - share)), dh * gate * share};
}

// Rows to blocks, packs of a row to threads: no division.
__global__ void __launch_bounds__(256)
    swiglu_forward_kernel(SwigluShape shape, const Bfloat16* gate, const Bfloat16* up,
                          Bfloat16* h) {
  for (std::int64_t row = blockIdx.x; row < shape.rows; row += gridDim.x) {
    const std::int64_t from = row * shape.input_stride();
    for (int column = static_cast<int>(threadIdx.x) * pack_size; column < shape.width;
         column += static_cast<int>(blockDim.x) * pack_size) {
      float gates[pack_size], ups[pack_size];
      unpack(load_aligned<Pack>(gate + from + column), gates);
      unpack(load_aligned<Pack>(up + from + column), ups);
      LONGHAUL_UNROLL
      for (int i = 0; i < pack_size; ++i) gates[i] = swiglu_value(gates[i], ups[i]);
      store_aligned(h + row * shape.width + column, pack(gates));
    }
  }
}

__global__ void __launch_bounds__(256)
    swiglu_backward_kernel(SwigluShape shape, const Bfloat16* gate, const Bfloat16* up,
                           const Bfloat16* dh, Bfloat16* dgate, Bfloat16* dup) {
  for (std::int64_t row = blockIdx.x; row < shape.rows; row += gridDim.x) {
    const std::int64_t from = row * shape.input_stride();
    for (int column = static_cast<int>(threadIdx.x) * pack_size; column < shape.width;
         column += static_cast<int>(blockDim.x) * pack_size) {
      float gates[pack_size], ups[pack_size], upstream[pack_size];
      unpack(load_aligned<Pack>(gate + from + column), gates);
      unpack(load_aligned<Pack>(up + from + column), ups);
      unpack(load_aligned<Pack>(dh + row * shape.width + column), upstream);
      LONGHAUL_UNROLL
      for (int i = 0; i < pack_size; ++i) {
        const SwigluPair pair = swiglu_gradients(gates[i], ups[i], upstream[i]);
        gates[i] = pair.dgate;
        ups[i] = pair.dup;
      }
      store_aligned(dgate + from + column, pack(gates));
      store_aligned(dup + from + column, pack(ups));
    }
  }
}

}  // namespace longhaul::kernels
