#pragma once
// A step of AdamW on fp32 master weights and moments, with a bf16 copy of the weights out.

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "kernels/adamw/reference.h"
#include "kernels/common/grid_stride.h"
#include "kernels/common/pack.h"
#include "kernels/common/simt.h"

namespace longhaul::kernels {

/// The scalars of a step, worked out once on the host in double precision.
struct AdamwFactors {
  float beta1;
  float one_minus_beta1;
  float beta2;
  float one_minus_beta2;
  float keep;           ///< 1 - learning rate x weight decay
  float rate;           ///< learning rate / (1 - beta1^step)
  float inverse_root2;  ///< 1 / sqrt(1 - beta2^step)
  float epsilon;
  float gradient_scale;
};

/// One parameter.
__device__ __forceinline__ void adamw_update(const AdamwFactors& factors, float gradient,
                                             float& weight, float& first, float& second) {
  const float g = factors.gradient_scale * gradient;
  first = factors.beta1 * first + factors.one_minus_beta1 * g;
  second = factors.beta2 * second + factors.one_minus_beta2 * (g * g);
  const float root = fast_root(second) * factors.inverse_root2;
  weight = factors.keep * weight - factors.rate * fast_divide(first, root + factors.epsilon);
}

/// Four gradients of either precision.
__device__ __forceinline__ Quad load_gradients(const float* from) {
  return load_aligned<Quad>(from);
}
__device__ __forceinline__ Quad load_gradients(const Bfloat16* from) {
  const HalfPack pack = load_aligned<HalfPack>(from);
  Quad values;
  unpack_pair(pack.words[0], values.values[0], values.values[1]);
  unpack_pair(pack.words[1], values.values[2], values.values[3]);
  return values;
}
__device__ __forceinline__ float load_gradient(const float* from) { return *from; }
__device__ __forceinline__ float load_gradient(const Bfloat16* from) { return load_scalar(from); }

/// Four parameters per thread: a 16-byte access to each of three fp32 arrays is enough in flight.
template <class Gradient>
__global__ void __launch_bounds__(256)
    adamw_kernel(std::size_t count, AdamwFactors factors, const Gradient* gradients, float* weights,
                 float* first, float* second, Bfloat16* copy) {
  constexpr std::size_t size = 4;
  for (std::size_t i = GridStride::first(); i * size < count; i += GridStride::step()) {
    const std::size_t at = i * size;
    if (at + size <= count) {
      const Quad g = load_gradients(gradients + at);
      Quad w = load_aligned<Quad>(weights + at);
      Quad m = load_aligned<Quad>(first + at);
      Quad v = load_aligned<Quad>(second + at);
      LONGHAUL_UNROLL
      for (int e = 0; e < 4; ++e) {
        adamw_update(factors, g.values[e], w.values[e], m.values[e], v.values[e]);
      }
      store_aligned(weights + at, w);
      store_aligned(first + at, m);
      store_aligned(second + at, v);
      store_aligned(copy + at, HalfPack{{pack_pair(w.values[0], w.values[1]),
                                         pack_pair(w.values[2], w.values[3])}});
    } else {
      for (std::size_t e = at; e < count; ++e) {
        adamw_update(factors, load_gradient(gradients + e), weights[e], first[e], second[e]);
        store_scalar(copy + e, weights[e]);
      }
    }
  }
}

}  // namespace longhaul::kernels
