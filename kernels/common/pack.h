#pragma once
// Eight bfloat16 that move as one 16-byte access, and scalar functions of GPU and CPU.

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/common/bfloat16.h"
#include "kernels/common/host_device.h"
#include "kernels/common/require.h"
#include "kernels/common/simt.h"

namespace longhaul::kernels {

/// Elements of a pack.
inline constexpr int pack_size = 8;

/// Eight bfloat16 as they lie in memory: element 2i in the low half of word i.
struct Pack {
  alignas(16) std::uint32_t words[4];
};

/// Four floats that move as one 16-byte access.
struct Quad {
  alignas(16) float values[4];
};

/// Four bfloat16 that move as one 8-byte access.
struct HalfPack {
  alignas(8) std::uint32_t words[2];
};

/// Two bfloat16 that move as one 4-byte access.
struct Pair {
  std::uint32_t word;
};

/// Two floats that move as one 8-byte access.
struct FloatPair {
  alignas(8) float values[2];
};

#if !defined(LONGHAUL_EMULATED_GPU)
// CUDA's vector types, which nvcc reads with one instruction.
template <class T>
struct VectorOf;
template <>
struct VectorOf<Pack> {
  using Type = uint4;
};
template <>
struct VectorOf<Quad> {
  using Type = float4;
};
template <>
struct VectorOf<HalfPack> {
  using Type = uint2;
};
template <>
struct VectorOf<FloatPair> {
  using Type = float2;
};
__device__ __forceinline__ FloatPair from_vector(float2 v) { return {{v.x, v.y}}; }
__device__ __forceinline__ Pack from_vector(uint4 v) { return {{v.x, v.y, v.z, v.w}}; }
__device__ __forceinline__ Quad from_vector(float4 v) { return {{v.x, v.y, v.z, v.w}}; }
__device__ __forceinline__ HalfPack from_vector(uint2 v) { return {{v.x, v.y}}; }
// Stores in PTX: nvcc 13.0 cuts a stored struct into words in some kernels, CUDA's vector types
// too.
__device__ __forceinline__ void store_vector(void* to, const Pack& p) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)),
               "r"(p.words[0]), "r"(p.words[1]), "r"(p.words[2]), "r"(p.words[3])
               : "memory");
}
__device__ __forceinline__ void store_vector(void* to, const Quad& q) {
  asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)),
               "f"(q.values[0]), "f"(q.values[1]), "f"(q.values[2]), "f"(q.values[3])
               : "memory");
}
__device__ __forceinline__ void store_vector(void* to, const FloatPair& p) {
  asm volatile("st.global.v2.f32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(to)),
               "f"(p.values[0]), "f"(p.values[1])
               : "memory");
}
__device__ __forceinline__ void store_vector(void* to, const Pair& p) {
  asm volatile("st.global.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(to)), "r"(p.word)
               : "memory");
}
__device__ __forceinline__ void store_vector(void* to, const HalfPack& p) {
  asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(to)),
               "r"(p.words[0]), "r"(p.words[1])
               : "memory");
}
#endif

/// Reads a Pack, Quad, HalfPack or FloatPair of global memory at `from`, which must be aligned to
/// its size.
template <class T, class Element>
__device__ __forceinline__ T load_aligned(const Element* from) {
#if !defined(LONGHAUL_EMULATED_GPU)
  return from_vector(*reinterpret_cast<const typename VectorOf<T>::Type*>(from));
#else
  T value;
  require(reinterpret_cast<std::uintptr_t>(from) % sizeof(T) == 0,
          "a vector access is not aligned");
  std::memcpy(&value, from, sizeof(T));
  return value;
#endif
}

/// Writes one, or a Pair, to global memory at `to`, which must be aligned to its size.
template <class T, class Element>
__device__ __forceinline__ void store_aligned(Element* to, const T& value) {
#if !defined(LONGHAUL_EMULATED_GPU)
  store_vector(to, value);
#else
  require(reinterpret_cast<std::uintptr_t>(to) % sizeof(T) == 0, "a vector access is not aligned");
  std::memcpy(static_cast<void*>(to), &value, sizeof(T));
#endif
}

/// Two values, exact; `low` is of the low half.
__device__ __forceinline__ void unpack_pair(std::uint32_t pair, float& low, float& high) {
  const std::uint32_t low_bits = pair << 16;
  const std::uint32_t high_bits = pair & 0xffff0000U;
#if defined(__CUDA_ARCH__)
  low = __uint_as_float(low_bits);
  high = __uint_as_float(high_bits);
#else
  std::memcpy(&low, &low_bits, sizeof(float));
  std::memcpy(&high, &high_bits, sizeof(float));
#endif
}

/// The eight values, exact.
__device__ __forceinline__ void unpack(const Pack& pack, float (&values)[pack_size]) {
  LONGHAUL_UNROLL
  for (int i = 0; i < 4; ++i) unpack_pair(pack.words[i], values[2 * i], values[2 * i + 1]);
}

/// Two values rounded to nearest even: `low` in the low half.
__device__ __forceinline__ std::uint32_t pack_pair(float low, float high) {
#if defined(__CUDA_ARCH__)
  std::uint32_t pair;
  // PTX ISA, cvt: the first source goes to the upper half.
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return to_bfloat16(low).bits | static_cast<std::uint32_t>(to_bfloat16(high).bits) << 16;
#endif
}

/// Eight values rounded to nearest even.
__device__ __forceinline__ Pack pack(const float (&values)[pack_size]) {
  Pack result;
  LONGHAUL_UNROLL
  for (int i = 0; i < 4; ++i) result.words[i] = pack_pair(values[2 * i], values[2 * i + 1]);
  return result;
}

/// One value of memory, exact.
__device__ __forceinline__ float load_scalar(const Bfloat16* from) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(static_cast<std::uint32_t>(from->bits) << 16);
#else
  return to_float(*from);
#endif
}

/// One value to memory, rounded to nearest even.
__device__ __forceinline__ void store_scalar(Bfloat16* to, float value) {
#if defined(__CUDA_ARCH__)
  to->bits = static_cast<std::uint16_t>(pack_pair(value, 0.0f) & 0xffffU);
#else
  *to = to_bfloat16(value);
#endif
}

/// e^x. GPU: ex2.approx of x log2(e), relative error below 2^-21 + 2^-23 |x| (CUDA programming
/// guide, __expf: 2 + floor(|1.173 x|) units in the last place); 0 for -inf.
__device__ __forceinline__ float fast_exp(float x) {
#if defined(__CUDA_ARCH__)
  return __expf(x);
#else
  return std::exp(x);
#endif
}

/// x / y. GPU: __fdividef, 2 units in the last place for 2^-126 <= |y| <= 2^126.
__device__ __forceinline__ float fast_divide(float x, float y) {
#if defined(__CUDA_ARCH__)
  return __fdividef(x, y);
#else
  return x / y;
#endif
}

/// sqrt(x). GPU: sqrt.approx, relative error below 2^-23 (PTX ISA); 0 for 0.
__device__ __forceinline__ float fast_root(float x) {
#if defined(__CUDA_ARCH__)
  float root;
  asm("sqrt.approx.f32 %0, %1;" : "=f"(root) : "f"(x));
  return root;
#else
  return std::sqrt(x);
#endif
}

/// 1 / sqrt(x). GPU: rsqrtf, 2 units in the last place.
__device__ __forceinline__ float inverse_root(float x) {
#if defined(__CUDA_ARCH__)
  return rsqrtf(x);
#else
  return 1.0f / std::sqrt(x);
#endif
}

}  // namespace longhaul::kernels
