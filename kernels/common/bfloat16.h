#pragma once
// bfloat16 on the host, without CUDA: the 16 high bits of an IEEE binary32.

#include <bit>
#include <cmath>
#include <cstdint>

namespace longhaul::kernels {

/// A bfloat16 as it lies in memory; the same 16 bits as CUDA's __nv_bfloat16.
struct Bfloat16 {
  std::uint16_t bits = 0;
};

/// Nearest bfloat16, ties to even, as cvt.rn.bf16.f32 rounds; a NaN becomes the quiet NaN 0x7fff.
inline Bfloat16 to_bfloat16(float value) {
  if (std::isnan(value)) return {0x7fff};
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  return {static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

/// The value, exact.
inline float to_float(Bfloat16 value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

}  // namespace longhaul::kernels
