#pragma once
// Cross-entropy, forward and backward in one kernel, or in two around the combination of ranks.

#include <cmath>
#include <cstdint>

#include "kernels/common/pack.h"
#include "kernels/common/simt.h"
#include "kernels/common/team.h"
#include "kernels/cross_entropy/reference.h"

namespace longhaul::kernels {

/// e^(from - to) for from <= to; 1 where both are -inf, which stands for no columns at all.
__device__ __forceinline__ float shrink(float from, float to) {
  return from == to ? 1.0f : fast_exp(from - to);
}

/// What two sets of columns know together. Commutative; associative up to rounding; the identity is
/// {-inf, 0, 0}.
__device__ __forceinline__ RowPartial combine(const RowPartial& a, const RowPartial& b) {
  const float largest = a.largest > b.largest ? a.largest : b.largest;
  return {largest, a.sum * shrink(a.largest, largest) + b.sum * shrink(b.largest, largest),
          a.target + b.target};
}

/// Log-sum-exp of a row's logits.
__device__ __forceinline__ float row_lse(const RowPartial& whole) {
  return whole.largest + std::log(whole.sum);
}

/// Packs that a thread reads before it uses the first, so that enough of the memory's time is
/// filled by the one block that a processor has under way.
inline constexpr int packs_together = 4;

/// Packs `first`, `first` + 1, ... of a thread's columns of a row.
struct RowPacks {
  Pack held[packs_together];
  int column[packs_together];

  __device__ __forceinline__ static int column_of(int pack) {
    return (pack * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * pack_size;
  }
  /// The row's storage goes on to the next multiple of 8, so that whole packs can be read.
  __device__ __forceinline__ RowPacks(const Bfloat16* row, int first, int vocabulary) {
    LONGHAUL_UNROLL
    for (int p = 0; p < packs_together; ++p) {
      column[p] = column_of(first + p);
      held[p] = column[p] < vocabulary ? load_aligned<Pack>(row + column[p]) : Pack{};
    }
  }
  /// The eight logits of a pack; -inf beyond the row's end.
  __device__ __forceinline__ void logits(int p, int vocabulary, float (&values)[pack_size]) const {
    unpack(held[p], values);
    LONGHAUL_UNROLL
    for (int i = 0; i < pack_size; ++i) {
      if (column[p] + i >= vocabulary) values[i] = -INFINITY;
    }
  }
};

/// The thread's columns of a row by the online softmax (arXiv 1805.02867): one pass, one rescaling
/// for all the packs that are read together.
__device__ __forceinline__ RowPartial partial_of_thread(const Bfloat16* row, int vocabulary) {
  RowPartial partial{-INFINITY, 0.0f, 0.0f};
  for (int first = 0; RowPacks::column_of(first) < vocabulary; first += packs_together) {
    const RowPacks packs(row, first, vocabulary);
    float values[pack_size];
    float largest = partial.largest;
    LONGHAUL_UNROLL
    for (int p = 0; p < packs_together; ++p) {
      packs.logits(p, vocabulary, values);
      LONGHAUL_UNROLL
      for (int i = 0; i < pack_size; ++i) largest = values[i] > largest ? values[i] : largest;
    }
    if (largest == -INFINITY) continue;  // nothing but -inf so far
    float sum = partial.sum * shrink(partial.largest, largest);
    LONGHAUL_UNROLL
    for (int p = 0; p < packs_together; ++p) {
      packs.logits(p, vocabulary, values);
      LONGHAUL_UNROLL
      for (int i = 0; i < pack_size; ++i) sum += fast_exp(values[i] - largest);
    }
    partial.largest = largest;
    partial.sum = sum;
  }
  return partial;
}

/// The row's partial, the same in all threads of the block. `target` is a column, or outside.
__device__ __forceinline__ RowPartial partial_of_block(const Bfloat16* row, int vocabulary,
                                                       std::int64_t target) {
  using Threads = Team<true>;
  const RowPartial mine = partial_of_thread(row, vocabulary);
  RowPartial whole{};
  whole.largest = Threads::max(mine.largest);
  whole.sum = Threads::sum(mine.sum * shrink(mine.largest, whole.largest));
  const bool here = target >= 0 && target < vocabulary;
  whole.target = here ? load_scalar(row + target) : 0.0f;
  return whole;
}

/// scale (softmax - onehot) of the thread's columns; zeros to the padding up to a multiple of 8, be
/// it the place of a target that another rank has. `gradient` may be `row`: each thread overwrites
/// only what it has read.
__device__ __forceinline__ void write_gradient(const Bfloat16* row, int vocabulary,
                                               std::int64_t target, float lse, float scale,
                                               Bfloat16* gradient) {
  for (int first = 0; RowPacks::column_of(first) < vocabulary; first += packs_together) {
    const RowPacks packs(row, first, vocabulary);
    LONGHAUL_UNROLL
    for (int p = 0; p < packs_together; ++p) {
      const int column = packs.column[p];
      if (column >= vocabulary) break;
      float values[pack_size];
      packs.logits(p, vocabulary, values);
      LONGHAUL_UNROLL
      for (int i = 0; i < pack_size; ++i) {
        const bool inside = column + i < vocabulary;
        const float share = values[i] == -INFINITY ? 0.0f : fast_exp(values[i] - lse);
        const float hit = inside && column + i == target ? 1.0f : 0.0f;
        values[i] = scale == 0.0f ? 0.0f : scale * (share - hit);
      }
      store_aligned(gradient + column, pack(values));
    }
  }
}

inline constexpr unsigned cross_entropy_threads = 1024;

__global__ void __launch_bounds__(cross_entropy_threads)
    cross_entropy_kernel(CrossEntropyShape shape, float gradient_scale, const Bfloat16* logits,
                         const std::int32_t* targets, float* loss, Bfloat16* gradient) {
  for (std::int64_t row = blockIdx.x; row < shape.rows; row += gridDim.x) {
    const Bfloat16* from = logits + row * shape.stride;
    const bool ignored = targets[row] == shape.ignored_target;
    const std::int64_t target = static_cast<std::int64_t>(targets[row]) - shape.first;
    const RowPartial whole = partial_of_block(from, shape.vocabulary, target);
    const float lse = row_lse(whole);
    // The target's logit has been read by every thread before the first barrier of the next row,
    // but not before this row's gradient overwrites it in place.
    __syncthreads();
    if (threadIdx.x == 0) loss[row] = ignored ? 0.0f : lse - whole.target;
    write_gradient(from, shape.vocabulary, target, lse, ignored ? 0.0f : gradient_scale,
                   gradient + row * shape.stride);
  }
}

__global__ void __launch_bounds__(cross_entropy_threads)
    cross_entropy_partials_kernel(CrossEntropyShape shape, const Bfloat16* logits,
                                  const std::int32_t* targets, RowPartial* partials) {
  for (std::int64_t row = blockIdx.x; row < shape.rows; row += gridDim.x) {
    const bool ignored = targets[row] == shape.ignored_target;
    const std::int64_t target =
        ignored ? -1 : static_cast<std::int64_t>(targets[row]) - shape.first;
    const RowPartial whole =
        partial_of_block(logits + row * shape.stride, shape.vocabulary, target);
    if (threadIdx.x == 0) partials[row] = whole;
  }
}

/// Combines the partials of all ranks, [ranks][rows], in the order of ranks, so that every rank
/// gets the same bits; then the loss, and the gradient of this rank's columns.
__global__ void __launch_bounds__(cross_entropy_threads)
    cross_entropy_gradient_kernel(CrossEntropyShape shape, float gradient_scale, int ranks,
                                  const RowPartial* partials, const Bfloat16* logits,
                                  const std::int32_t* targets, float* loss, Bfloat16* gradient) {
  for (std::int64_t row = blockIdx.x; row < shape.rows; row += gridDim.x) {
    RowPartial whole{-INFINITY, 0.0f, 0.0f};
    for (int rank = 0; rank < ranks; ++rank)
      whole = combine(whole, partials[rank * shape.rows + row]);
    const bool ignored = targets[row] == shape.ignored_target;
    const float lse = row_lse(whole);
    if (threadIdx.x == 0) loss[row] = ignored ? 0.0f : lse - whole.target;
    write_gradient(logits + row * shape.stride, shape.vocabulary,
                   static_cast<std::int64_t>(targets[row]) - shape.first, lse,
                   ignored ? 0.0f : gradient_scale, gradient + row * shape.stride);
  }
}

}  // namespace longhaul::kernels
