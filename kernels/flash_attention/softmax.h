#pragma once
// The online softmax on the registers of one thread, as the kernel does it between two products.
//
// A thread holds `count` scores S of two rows (fragment_row, fragment_column). Per tile of keys:
// mask_scores, then row maxima (over the thread's own scores; the four threads of a quad exchange
// theirs), then next_maximum, then exponentiate. With scores s, scale c, maximum m so far:
//   p = exp2((s - m) c log2 e),  l = sum p,  and on a new maximum m' both l and O shrink by
//   exp2((m - m') c log2 e);  O = sum p v / l,  LSE = m c + ln l.
// A row that has seen no key keeps m = -inf, l = 0 and gives O = 0, LSE = -inf.

#include <cmath>

#include "kernels/common/host_device.h"
#include "kernels/flash_attention/mask.h"

namespace longhaul::kernels::flash {

inline constexpr float minus_infinity = -INFINITY;
inline constexpr float log2_e = 1.4426950408889634f;
inline constexpr float ln_2 = 0.6931471805599453f;

/// 2^x; on the GPU the approximation of its special function unit (relative error 2^-22, PTX ISA).
LONGHAUL_HOST_DEVICE float exp2_fast(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return std::exp2(x);
#endif
}

/// State of a thread's two rows. `sum` counts the thread's own columns only, until the end.
struct RowState {
  float maximum[2] = {minus_infinity, minus_infinity};
  float sum[2] = {0, 0};
};

/// Puts -inf where a row does not see a column. `first_column` is the key index of register 0.
template <int count>
LONGHAUL_HOST_DEVICE void mask_scores(float (&scores)[count], const KeyInterval (&keys)[2],
                                      int first_column) {
  // One unsigned comparison tests both ends: begin <= column < end.
  const unsigned width[2] = {static_cast<unsigned>(keys[0].end - keys[0].begin),
                             static_cast<unsigned>(keys[1].end - keys[1].begin)};
  const int start[2] = {first_column - keys[0].begin, first_column - keys[1].begin};
  LONGHAUL_UNROLL
  for (int i = 0; i < count; ++i) {
    const int row = i / 2 % 2;
    const unsigned place = static_cast<unsigned>(start[row] + i / 4 * 8 + i % 2);
    if (place >= width[row]) scores[i] = minus_infinity;
  }
}

/// Raises `maxima` to the largest of the thread's scores.
template <int count>
LONGHAUL_HOST_DEVICE void raise_maxima(const float (&scores)[count], float (&maxima)[2]) {
  LONGHAUL_UNROLL
  for (int i = 0; i < count; ++i) maxima[i / 2 % 2] = fmaxf(maxima[i / 2 % 2], scores[i]);
}

/// Takes the new maximum of a row, shrinks its sum, and gives the factor by which its part of O
/// must shrink. `exponent` becomes what to subtract from scaled scores; 0 while the maximum is
/// -inf, so that -inf - (-inf) never arises.
LONGHAUL_HOST_DEVICE float next_maximum(RowState& state, int row, float maximum, float scale_log2,
                                        float& exponent) {
  const float finite = maximum == minus_infinity ? 0.0f : maximum;
  const float shrink = exp2_fast((state.maximum[row] - finite) * scale_log2);
  state.maximum[row] = maximum;
  state.sum[row] *= shrink;
  exponent = finite * scale_log2;
  return shrink;
}

/// Scores become p = 2^(s scale_log2 - exponent), summed into the state.
template <int count>
LONGHAUL_HOST_DEVICE void exponentiate(float (&scores)[count], RowState& state, float scale_log2,
                                       const float (&exponent)[2]) {
  LONGHAUL_UNROLL
  for (int i = 0; i < count; ++i) {
    const int row = i / 2 % 2;
    scores[i] = exp2_fast(fmaf(scores[i], scale_log2, -exponent[row]));
    state.sum[row] += scores[i];
  }
}

/// Factor of O, and LSE, of a row whose quad's sums are added up in `total`. Only an empty row
/// (total exactly 0) gives 0 and -inf: a NaN stays a NaN.
struct RowResult {
  float factor = 0;
  float lse = minus_infinity;
};
/// `shift`: the powers p were taken times 2^shift.
LONGHAUL_HOST_DEVICE RowResult finish_row(float maximum, float total, float scale_log2,
                                          int shift = 0) {
  if (total == 0.0f) return {};
  return {1.0f / total, (maximum * scale_log2 + log2f(total) - static_cast<float>(shift)) * ln_2};
}

/// Weights that join a row computed before with one of other keys: O = first O1 + second O2.
/// A side with LSE = -inf has weight 0 and must not be read: it may be uninitialised.
struct MergeWeights {
  float first = 0;
  float second = 0;
  float lse = minus_infinity;
};
LONGHAUL_HOST_DEVICE MergeWeights merge_weights(float lse_first, float lse_second) {
  if (lse_first == minus_infinity) {
    return {0.0f, lse_second == minus_infinity ? 0.0f : 1.0f, lse_second};
  }
  if (lse_second == minus_infinity) return {1.0f, 0.0f, lse_first};
  const float top = fmaxf(lse_first, lse_second);
  const float first = exp2_fast((lse_first - top) * log2_e);
  const float second = exp2_fast((lse_second - top) * log2_e);
  const float total = first + second;
  return {first / total, second / total, top + log2f(total) * ln_2};
}

}  // namespace longhaul::kernels::flash
