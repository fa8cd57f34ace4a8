#pragma once
// Copies are exact: every byte at its place and none beyond the end.

#include "kernels/common/random_inputs.h"
#include "kernels/copy/launch.h"
#include "tests/kernels/buffer.h"

namespace longhaul::kernels {

inline bool same_bits(const std::vector<Bfloat16>& a, const std::vector<Bfloat16>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](Bfloat16 x, Bfloat16 y) { return x.bits == y.bits; });
}

/// Any count, so that the last 16 bytes may be ragged.
inline bool copy_is_exact(std::size_t count, std::uint64_t seed) {
  const auto values = random_bfloat16(count, seed);
  const Buffer<Bfloat16> from(values);
  Buffer<Bfloat16> to(count);
  copy(count * sizeof(Bfloat16), from.data(), to.data());
  return same_bits(to.download(), values) && !to.overran();
}

/// fp32 to bf16 is the rounding of kernels/common, and back is exact.
inline bool casts_are_exact(std::size_t count, std::uint64_t seed) {
  const auto values = random_normal(count, seed);
  std::vector<Bfloat16> rounded;
  std::vector<float> wide;
  for (const float value : values) {
    rounded.push_back(to_bfloat16(value));
    wide.push_back(to_float(rounded.back()));
  }
  const Buffer<float> from(values);
  Buffer<Bfloat16> narrow(count);
  Buffer<float> back(count);
  round_to_bfloat16(count, from.data(), narrow.data());
  widen_to_float(count, narrow.data(), back.data());
  return same_bits(narrow.download(), rounded) && back.download() == wide && !narrow.overran() &&
         !back.overran();
}

/// Packing is the reference's permutation, and unpacking brings every row back.
inline bool packing_is_exact(const RowTransposition& shape, std::uint64_t seed) {
  const std::size_t count = static_cast<std::size_t>(shape.outer) * shape.inner * shape.width;
  const auto values = random_bfloat16(count, seed);
  const Buffer<Bfloat16> from(values);
  Buffer<Bfloat16> packed(count);
  Buffer<Bfloat16> back(count);
  transpose_rows(shape, from.data(), packed.data());
  transpose_rows({shape.inner, shape.outer, shape.width}, packed.data(), back.data());
  return same_bits(packed.download(), transpose_rows_reference(shape, values)) &&
         same_bits(back.download(), values) && !packed.overran() && !back.overran();
}

}  // namespace longhaul::kernels
