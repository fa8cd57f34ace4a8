#pragma once
// Threads that work on one row together: a warp, or a whole block where rows are long.

#include <cstdint>

#include "kernels/common/simt.h"

namespace longhaul::kernels {

/// Sum over the 32 lanes, the same bits in all of them.
__device__ __forceinline__ float warp_sum(float value) {
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(~0U, value, lanes);
  return value;
}

/// Largest of the 32 lanes.
__device__ __forceinline__ float warp_max(float value) {
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    const float other = __shfl_xor_sync(~0U, value, lanes);
    value = other > value ? other : value;
  }
  return value;
}

/// The team of this thread. Rows are dealt in turn: team t takes rows t, t + count, ...
/// All threads of a team call the sums, with the same number of calls.
template <bool whole_block>
struct Team {
  /// Threads of a team.
  __device__ __forceinline__ static int size() {
    return whole_block ? static_cast<int>(blockDim.x) : 32;
  }
  /// This thread's place in the team.
  __device__ __forceinline__ static int lane() {
    return whole_block ? static_cast<int>(threadIdx.x) : lane_index();
  }
  __device__ __forceinline__ static std::int64_t index() {
    return whole_block ? blockIdx.x
                       : static_cast<std::int64_t>(blockIdx.x) * (blockDim.x / 32) + warp_index();
  }
  __device__ __forceinline__ static std::int64_t count() {
    return static_cast<std::int64_t>(gridDim.x) * (whole_block ? 1 : blockDim.x / 32);
  }
  /// Sum over the team, the same bits in all its threads.
  __device__ __forceinline__ static float sum(float value) {
    value = warp_sum(value);
    return whole_block ? warp_sum(of_warps(value, 0.0f)) : value;
  }
  /// Largest value of the team.
  __device__ __forceinline__ static float max(float value) {
    value = warp_max(value);
    return whole_block ? warp_max(of_warps(value, value)) : value;
  }

 private:
  // Lane w gets warp w's value, lanes without a warp `other`.
  __device__ __forceinline__ static float of_warps(float value, float other) {
    __shared__ float values[32];
    __syncthreads();  // the values of the sum before have been read
    if (lane_index() == 0) values[warp_index()] = value;
    __syncthreads();
    return lane_index() < static_cast<int>(blockDim.x / 32) ? values[lane_index()] : other;
  }
};

}  // namespace longhaul::kernels
