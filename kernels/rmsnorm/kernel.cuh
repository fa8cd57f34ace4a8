#pragma once
// RMSNorm, forward and backward: each row is read once and held in registers, as packs of bf16.

#include <cstdint>

#include "kernels/common/pack.h"
#include "kernels/common/simt.h"
#include "kernels/common/team.h"
#include "kernels/rmsnorm/reference.h"

namespace longhaul::kernels {

/// The part of a row that a thread of a team holds: packs lane, lane + size, ...
template <int packs, bool whole_block>
struct RowPart {
  Pack held[packs];

  __device__ __forceinline__ static int column(int pack) {
    return (pack * Team<whole_block>::size() + Team<whole_block>::lane()) * pack_size;
  }
  /// Pack `pack` of a row of weights that starts at `row`; zeros beyond `width`. Read from the
  /// cache each time, as the registers are needed for the sums.
  __device__ __forceinline__ static Pack cached(const Bfloat16* row, int width, int pack) {
    return column(pack) < width ? load_aligned<Pack>(row + column(pack)) : Pack{};
  }
  /// Reads the thread's packs of a row that starts at `row`; zeros beyond `width`.
  __device__ __forceinline__ void load(const Bfloat16* row, int width) {
    LONGHAUL_UNROLL
    for (int p = 0; p < packs; ++p) {
      held[p] = column(p) < width ? load_aligned<Pack>(row + column(p)) : Pack{};
    }
  }
};

template <int packs, bool whole_block>
__global__ void __launch_bounds__(512)
    rmsnorm_forward_kernel(RmsNormShape shape, const Bfloat16* x, const Bfloat16* weight,
                           Bfloat16* y, float* reciprocal_root) {
  using Threads = Team<whole_block>;
  using Part = RowPart<packs, whole_block>;
  for (std::int64_t row = Threads::index(); row < shape.rows; row += Threads::count()) {
    Part part, scale;
    part.load(x + row * shape.width, shape.width);
    scale.load(weight, shape.width);  // now, so that no one waits for it after the sum
    float squares = 0;
    LONGHAUL_UNROLL
    for (int p = 0; p < packs; ++p) {
      float values[pack_size];
      unpack(part.held[p], values);
      LONGHAUL_UNROLL
      for (int i = 0; i < pack_size; ++i) squares += values[i] * values[i];
    }
    const float mean = Threads::sum(squares) / static_cast<float>(shape.width);
    const float root = inverse_root(mean + shape.epsilon);
    if (Threads::lane() == 0) reciprocal_root[row] = root;
    LONGHAUL_UNROLL
    for (int p = 0; p < packs; ++p) {
      const int column = Part::column(p);
      if (column >= shape.width) break;
      float values[pack_size], weights[pack_size];
      unpack(part.held[p], values);
      unpack(scale.held[p], weights);
      LONGHAUL_UNROLL
      for (int i = 0; i < pack_size; ++i) values[i] *= root * weights[i];
      store_aligned(y + row * shape.width + column, pack(values));
    }
  }
}

/// A thread's eight columns of one row: dx into `values` (which hold x), dy x r added to `sums`.
__device__ __forceinline__ void rmsnorm_gradients(float root, float along,
                                                  const float (&weights)[pack_size],
                                                  const float (&gradient)[pack_size],
                                                  float (&values)[pack_size],
                                                  float (&sums)[pack_size]) {
  LONGHAUL_UNROLL
  for (int i = 0; i < pack_size; ++i) {
    sums[i] += gradient[i] * values[i] * root;
    values[i] = root * (weights[i] * gradient[i] - values[i] * along);
  }
}

/// dx, and each team's share of dweight to partials[team][width].
template <int packs, bool whole_block>
__global__ void __launch_bounds__(512)
    rmsnorm_backward_kernel(RmsNormShape shape, const Bfloat16* x, const Bfloat16* weight,
                            const float* reciprocal_root, const Bfloat16* dy, Bfloat16* dx,
                            float* partials) {
  using Threads = Team<whole_block>;
  using Part = RowPart<packs, whole_block>;
  float sums[packs][pack_size] = {};
  for (std::int64_t row = Threads::index(); row < shape.rows; row += Threads::count()) {
    Part part, upstream;
    part.load(x + row * shape.width, shape.width);
    upstream.load(dy + row * shape.width, shape.width);
    const float root = reciprocal_root[row];
    float product = 0;
    LONGHAUL_UNROLL
    for (int p = 0; p < packs; ++p) {
      float values[pack_size], weights[pack_size], gradient[pack_size];
      unpack(part.held[p], values);
      unpack(Part::cached(weight, shape.width, p), weights);
      unpack(upstream.held[p], gradient);
      LONGHAUL_UNROLL
      for (int i = 0; i < pack_size; ++i) product += weights[i] * gradient[i] * values[i];
    }
    const float along = root * root * (Threads::sum(product) / static_cast<float>(shape.width));
    LONGHAUL_UNROLL
    for (int p = 0; p < packs; ++p) {
      float values[pack_size], weights[pack_size], gradient[pack_size];
      unpack(part.held[p], values);
      unpack(Part::cached(weight, shape.width, p), weights);
      unpack(upstream.held[p], gradient);
      rmsnorm_gradients(root, along, weights, gradient, values, sums[p]);
      const int column = Part::column(p);
      if (column < shape.width) store_aligned(dx + row * shape.width + column, pack(values));
    }
  }
  LONGHAUL_UNROLL
  for (int p = 0; p < packs; ++p) {
    const int column = Part::column(p);
    if (column >= shape.width) break;
    float* to = partials + Threads::index() * shape.width + column;
    store_aligned(to, Quad{{sums[p][0], sums[p][1], sums[p][2], sums[p][3]}});
    store_aligned(to + 4, Quad{{sums[p][4], sums[p][5], sums[p][6], sums[p][7]}});
  }
}

/// sums[column] = sum over `rows` of matrix[row][column]: a block of 8 warps takes 32 columns, its
/// warps every eighth row. The order of the sum depends on nothing but `rows`.
__global__ void __launch_bounds__(256)
    column_sums_kernel(int rows, int width, const float* matrix, float* sums) {
  __shared__ float of_warp[8][32];
  const int column = static_cast<int>(blockIdx.x) * 32 + lane_index();
  float sum = 0;
  for (int row = warp_index(); column < width && row < rows; row += 8) {
    sum += matrix[static_cast<std::size_t>(row) * width + column];
  }
  of_warp[warp_index()][lane_index()] = sum;
  __syncthreads();
  if (warp_index() != 0 || column >= width) return;
  for (int warp = 1; warp < 8; ++warp) sum += of_warp[warp][lane_index()];
  sums[column] = sum;
}

}  // namespace longhaul::kernels
