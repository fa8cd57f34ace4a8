#pragma once
// Merges a block's attention result into the running one of a ring step, in place.

#include <cmath>
#include <cstdint>

#include "kernels/common/pack.h"
#include "kernels/common/simt.h"
#include "kernels/lse_merge/reference.h"

namespace longhaul::kernels {

/// What each of two results weighs in their merge, and the log-sum-exp of both.
struct MergeWeights {
  float first;
  float second;
  float lse;
};

/// Weights of merge_reference() divided by their sum. -inf on one side gives that side weight 0
/// exactly; on both, weights 0 and lse -inf. No NaN arises of -inf - -inf.
__device__ __forceinline__ MergeWeights merge_weights(float first_lse, float second_lse) {
  const float largest = first_lse > second_lse ? first_lse : second_lse;
  if (largest == -INFINITY) return {0.0f, 0.0f, -INFINITY};
  const float first = fast_exp(first_lse - largest);
  const float second = fast_exp(second_lse - largest);
  const float sum = first + second;  // in [1, 2]
  return {fast_divide(first, sum), fast_divide(second, sum), largest + std::log(sum)};
}

/// Eight elements: a side of weight 0 counts nothing, be it NaN.
__device__ __forceinline__ void merge_pack(const MergeWeights& weights, float* running,
                                           const Bfloat16* block) {
  float sum[pack_size] = {};
  if (weights.first > 0) {
    const Quad low = load_aligned<Quad>(running);
    const Quad high = load_aligned<Quad>(running + 4);
    LONGHAUL_UNROLL
    for (int i = 0; i < 4; ++i) {
      sum[i] = weights.first * low.values[i];
      sum[i + 4] = weights.first * high.values[i];
    }
  }
  if (weights.second > 0) {
    float values[pack_size];
    unpack(load_aligned<Pack>(block), values);
    LONGHAUL_UNROLL
    for (int i = 0; i < pack_size; ++i) sum[i] += weights.second * values[i];
  }
  store_aligned(running, Quad{{sum[0], sum[1], sum[2], sum[3]}});
  store_aligned(running + 4, Quad{{sum[4], sum[5], sum[6], sum[7]}});
}

/// `lanes` (8, 16 or 32) neighbouring lanes take a row. All of them read the row's running lse
/// before one of them overwrites it: __syncwarp between, in steps that all warps' lanes take.
template <int lanes>
__global__ void __launch_bounds__(256)
    lse_merge_kernel(LseMergeShape shape, float* running, float* running_lse, const Bfloat16* block,
                     const float* block_lse) {
  constexpr std::uint32_t rows_per_warp = 32 / lanes;
  const std::uint32_t warps = gridDim.x * (blockDim.x / 32);
  const std::uint32_t warp = blockIdx.x * (blockDim.x / 32) + warp_index();
  const int lane = lane_index() % lanes;
  for (std::uint32_t first = warp * rows_per_warp; first < shape.rows();
       first += warps * rows_per_warp) {
    const std::uint32_t row = first + lane_index() / lanes;
    const bool mine = row < shape.rows();
    const std::uint32_t at = mine ? shape.lse_index(row) : 0;
    MergeWeights weights{};
    if (mine) weights = merge_weights(running_lse[at], block_lse[at]);
    __syncwarp();
    if (!mine) continue;  // the warp's last step
    if (lane == 0) running_lse[at] = weights.lse;
    for (int column = lane * pack_size; column < shape.width; column += lanes * pack_size) {
      const std::size_t element = static_cast<std::size_t>(row) * shape.width + column;
      merge_pack(weights, running + element, block + element);
    }
  }
}

}  // namespace longhaul::kernels
