#pragma once
// Attention forward with the matrix instructions that every GPU since compute capability 8.0 has
// (mma.sync, ldmatrix, cp.async): a second implementation that checks the Hopper kernel, and what
// runs on an A100. The algorithm is FlashAttention-2's (Dao, arXiv 2307.08691).
//
// A block takes one tile of query rows, a warp 16 of them; scores, weights and output stay in
// registers. K and V have one buffer each: V is copied while the scores are computed, the next K
// while the values are summed.

#include <cstdint>

#include "kernels/common/pack.h"
#include "kernels/common/simt.h"
#include "kernels/common/warp_mma.h"
#include "kernels/flash_attention/scheduler.h"
#include "kernels/flash_attention/softmax.h"
#include "kernels/flash_attention/tensors.h"

namespace longhaul::kernels::flash {

/// Tile of a block. Keys are chosen so that a thread's scores and output (keys / 2 + head_dim / 2
/// floats) and a copy of either as operand fit its registers, and two blocks or more fit an SM.
template <int head_dim_>
struct PortableTile {
  static_assert(head_dim_ == 64 || head_dim_ == 128 || head_dim_ == 256, "no such head dimension");
  static constexpr int head_dim = head_dim_;
  static constexpr int warps = 4;
  static constexpr int threads = 32 * warps;
  static constexpr int rows = 16 * warps;
  static constexpr int keys = head_dim == 64 ? 128 : head_dim == 128 ? 64 : 32;
  static constexpr int chunks = head_dim / pack_size;  ///< pieces of 16 bytes of a row

  static constexpr int blocks_per_sm = 2;
  /// Whether queries stay in registers as operands; else each step reads them again.
  static constexpr bool keeps_queries = head_dim <= 128;

  static constexpr int k_offset = rows * head_dim * 2;
  static constexpr int v_offset = k_offset + keys * head_dim * 2;
  static constexpr int shared_bytes = v_offset + keys * head_dim * 2;
  static_assert(blocks_per_sm * (shared_bytes + 1024) <= 164 * 1024, "shared memory of an A100");
};

/// Byte offset of chunk `chunk` (16 bytes) of row `row` of a matrix in shared memory. The chunks of
/// a row are exchanged by its number, so that eight rows of one column of chunks lie in eight
/// different groups of banks: without that they would all lie in one.
template <int chunks>
LONGHAUL_HOST_DEVICE constexpr int chunk_offset(int row, int chunk) {
  // In this form compilers see that a constant added to `chunk` moves whole eights by a constant.
  return row * (chunks * 16) + chunk / 8 * 128 + ((chunk % 8) ^ (row % 8)) * 16;
}

/// What the kernel is launched with.
struct PortableParameters {
  Problem problem;
  ForwardTensors tensors;
  float scale_log2 = 0;  // softmax scale times log2 e
};

/// The i-th tile of keys that a block takes: first those that need a mask, before and behind the
/// full ones, then these, so that there is one loop of each kind.
LONGHAUL_HOST_DEVICE constexpr int masked_tiles(const TileRange& tiles) {
  return (tiles.end - tiles.first) - (tiles.full_end - tiles.full_first);
}
LONGHAUL_HOST_DEVICE constexpr int tile_at(const TileRange& tiles, int i) {
  const int before = tiles.full_first - tiles.first;
  if (i < before) return tiles.first + i;
  const int masked = masked_tiles(tiles);
  return i < masked ? tiles.full_end + i - before : tiles.full_first + i - masked;
}

/// One block's work on one tile of rows.
template <class Tile>
class PortableForward {
 public:
  __device__ __forceinline__ PortableForward(const PortableParameters& parameters, int tile)
      : parameters_(parameters),
        tile_(tile),
        work_(unpacked()),
        shared_(shared_address(dynamic_shared())) {
    keys_[0] = keys_of_row(work_.mask, own_row(0));
    keys_[1] = keys_of_row(work_.mask, own_row(1));
  }

  __device__ __forceinline__ void run() {
    const int count = work_.tiles.end - work_.tiles.first;
    const int masked = masked_tiles(work_.tiles);
    load_queries();
    commit_copies();
    load_tile(parameters_.tensors.k, Tile::k_offset, tile_at(work_.tiles, 0));
    commit_copies();
    if (Tile::keeps_queries) {
      wait_for_copies<1>();
      __syncthreads();  // the queries are here
      LONGHAUL_UNROLL
      for (int step = 0; step < Tile::head_dim / 16; ++step) read_queries(step, q_[step]);
    }
    for (int i = 0; i < masked; ++i) step<true>(i, count);
    for (int i = masked; i < count; ++i) step<false>(i, count);
    work_ = unpacked();
    store();
  }

 private:
  template <bool masked>
  __device__ __forceinline__ void step(int i, int count) {
    const int n = tile_at(work_.tiles, i);
    wait_for_copies<0>();
    __syncthreads();  // K(i) is here, and every warp is done with V(i - 1)
    load_tile(parameters_.tensors.v, Tile::v_offset, n);
    commit_copies();
    compute_scores();
    if (masked) mask_scores(s_, keys_, n * Tile::keys + fragment_column(lane_index()));
    take_softmax();
    wait_for_copies<0>();
    __syncthreads();  // V(i) is here, and every warp is done with K(i)
    if (i + 1 < count) {
      load_tile(parameters_.tensors.k, Tile::k_offset, tile_at(work_.tiles, i + 1));
      commit_copies();
    }
    sum_values();
  }

  // Done again for the results: kept, it would take registers through the loop over keys, and the
  // compiler, which must not see that it is the same, would keep it.
  __device__ __forceinline__ TileWork unpacked() const {
    int tile = tile_;
#if defined(__CUDA_ARCH__)
    asm volatile("" : "+r"(tile));
#endif
    return work_of<Tile::rows, Tile::keys>(parameters_.problem, tile);
  }

  // The thread's first (0) or second (1) row, within the sequence.
  __device__ __forceinline__ int own_row(int half) const {
    return work_.row_begin + 16 * warp_index() + fragment_row(lane_index()) + 8 * half;
  }

  // Rows beyond the sequence become 0; their results are not stored.
  __device__ __forceinline__ void load_queries() {
    const Problem& problem = parameters_.problem;
    for (int i = static_cast<int>(threadIdx.x); i < Tile::rows * Tile::chunks; i += Tile::threads) {
      const int row = i / Tile::chunks;
      const int chunk = i % Tile::chunks;
      const bool exists = work_.row_begin + row < work_.q_len;
      const long long vector = output_index(problem, work_, exists ? work_.row_begin + row : 0);
      copy_later(shared_ + chunk_offset<Tile::chunks>(row, chunk),
                 parameters_.tensors.q + vector * Tile::head_dim + chunk * pack_size, exists);
    }
  }

  // The n-th tile of K or V. Keys that nobody sees become
  // 0, so that a weight of 0 times such a value is 0 and not NaN. A thread copies one column of
  // chunks.
  __device__ __forceinline__ void load_tile(const Bfloat16* tensor, int offset, int n) {
    constexpr int step = Tile::threads / Tile::chunks;  // rows
    static_assert(Tile::threads % Tile::chunks == 0 && step % 4 == 0 && Tile::keys % step == 0);
    const int first = static_cast<int>(threadIdx.x) / Tile::chunks;
    const int chunk = static_cast<int>(threadIdx.x) % Tile::chunks;
    const int width = parameters_.problem.kv_heads * Tile::head_dim;
    const int left = work_.mask.key_end - n * Tile::keys;
    const Bfloat16* from = sequence_of(tensor) +
                           static_cast<long long>(n * Tile::keys + first) * width +
                           chunk * pack_size;
    LONGHAUL_UNROLL_TWICE
    for (int row = 0; row < Tile::keys; row += step) {
      copy_later(shared_ + offset + chunk_offset<Tile::chunks>(first + row, chunk), from,
                 first + row < left);
      from += step * width;
    }
  }

  // The first element of the tile's sequence and head in K or V.
  __device__ __forceinline__ const Bfloat16* sequence_of(const Bfloat16* tensor) const {
    const Problem& problem = parameters_.problem;
    const long long row = static_cast<long long>(work_.batch) * problem.kv_len + work_.kv_row;
    return tensor + (row * problem.kv_heads + work_.kv_head) * Tile::head_dim;
  }

  __device__ __forceinline__ SharedAddress at(int offset, int row, int chunk) const {
    return shared_ + offset + chunk_offset<Tile::chunks>(row, chunk);
  }

  // The warp's queries, 16 columns of them. Matrices: rows 0-7 and 8-15 of the first chunk, then of
  // the second.
  __device__ __forceinline__ void read_queries(int step, FragmentA& q) const {
    const int lane = lane_index();
    load_matrices<false>(at(0, 16 * warp_index() + lane % 16, 2 * step + lane / 16), q.words);
  }

  // S = Q K^T. Matrices of K: the two chunks of eight keys, then of the next eight.
  __device__ __forceinline__ void compute_scores() {
    const int lane = lane_index();
    LONGHAUL_UNROLL
    for (int i = 0; i < Tile::keys / 2; ++i) s_[i] = 0.0f;
    LONGHAUL_UNROLL
    for (int step = 0; step < Tile::head_dim / 16; ++step) {
      FragmentA& q = q_[Tile::keeps_queries ? step : 0];
      if (!Tile::keeps_queries) read_queries(step, q);
      LONGHAUL_UNROLL
      for (int group = 0; group < Tile::keys / 16; ++group) {
        std::uint32_t k[4];
        load_matrices<false>(
            at(Tile::k_offset, 16 * group + lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2), k);
        multiply_add(s_ + 8 * group, q, FragmentB{{k[0], k[1]}});
        multiply_add(s_ + 8 * group + 4, q, FragmentB{{k[2], k[3]}});
      }
    }
  }

  // Weights, rounded into A's operand: eight accumulators are the operand of 16 keys. O shrinks.
  __device__ __forceinline__ void take_softmax() {
    float maxima[2] = {state_.maximum[0], state_.maximum[1]};
    raise_maxima(s_, maxima);
    float exponent[2], shrink[2];
    LONGHAUL_UNROLL
    for (int row = 0; row < 2; ++row) {
      shrink[row] = next_maximum(
          state_, row, of_quad(maxima[row], [](float a, float b) { return a > b ? a : b; }),
          parameters_.scale_log2, exponent[row]);
    }
    exponentiate(s_, state_, parameters_.scale_log2, exponent);
    LONGHAUL_UNROLL
    for (int i = 0; i < Tile::keys / 4; ++i) p_[i] = pack_pair(s_[2 * i], s_[2 * i + 1]);
    LONGHAUL_UNROLL
    for (int i = 0; i < Tile::head_dim / 2; ++i) o_[i] *= shrink[i / 2 % 2];
  }

  // O += P V. B's matrices, transposed: keys 0-7 and 8-15 of eight columns, then of the next eight.
  __device__ __forceinline__ void sum_values() {
    const int lane = lane_index();
    LONGHAUL_UNROLL
    for (int step = 0; step < Tile::keys / 16; ++step) {
      const FragmentA p = {{p_[4 * step], p_[4 * step + 1], p_[4 * step + 2], p_[4 * step + 3]}};
      LONGHAUL_UNROLL
      for (int group = 0; group < Tile::head_dim / 16; ++group) {
        std::uint32_t v[4];
        load_matrices<true>(at(Tile::v_offset, 16 * step + lane % 16, 2 * group + lane / 16), v);
        multiply_add(o_ + 8 * group, p, FragmentB{{v[0], v[1]}});
        multiply_add(o_ + 8 * group + 4, p, FragmentB{{v[2], v[3]}});
      }
    }
  }

  // Of the four lanes that hold a row.
  template <class Join>
  __device__ __forceinline__ static float of_quad(float value, const Join& join) {
    value = join(value, __shfl_xor_sync(~0U, value, 1));
    return join(value, __shfl_xor_sync(~0U, value, 2));
  }

  __device__ __forceinline__ void store() {
    LONGHAUL_UNROLL
    for (int half = 0; half < 2; ++half) {
      const float total = of_quad(state_.sum[half], [](float a, float b) { return a + b; });
      const RowResult result = finish_row(state_.maximum[half], total, parameters_.scale_log2);
      const int row = own_row(half);
      const bool inside = row < work_.q_len;
      if (parameters_.tensors.running_o != nullptr) {
        join_row(row, inside, half, result);
      } else if (inside) {
        write_row(row, half, result);
      }
    }
  }

  __device__ __forceinline__ long long first_element(int row) const {
    return output_index(parameters_.problem, work_, row) * Tile::head_dim +
           fragment_column(lane_index());
  }
  __device__ __forceinline__ float* lse(int row) const {
    return parameters_.tensors.lse + lse_index(parameters_.problem, work_, row);
  }

  __device__ __forceinline__ void write_row(int row, int half, const RowResult& result) {
    Bfloat16* out = parameters_.tensors.o + first_element(row);
    LONGHAUL_UNROLL
    for (int i = 0; i < Tile::head_dim / 8; ++i) {
      store_aligned(out + 8 * i, Pair{pack_pair(o_[4 * i + 2 * half] * result.factor,
                                                o_[4 * i + 2 * half + 1] * result.factor)});
    }
    if (lane_index() % 4 == 0) *lse(row) = result.lse;
  }

  // With the running O and LSE, in fp32. All lanes of a row have read its LSE before one writes it.
  __device__ __forceinline__ void join_row(int row, bool inside, int half,
                                           const RowResult& result) {
    const MergeWeights weights = merge_weights(inside ? *lse(row) : minus_infinity, result.lse);
    __syncwarp();
    if (!inside || result.lse == minus_infinity) return;
    const float factor = weights.second * result.factor;
    float* out = parameters_.tensors.running_o + first_element(row);
    LONGHAUL_UNROLL
    for (int i = 0; i < Tile::head_dim / 8; ++i) {
      FloatPair sum{{o_[4 * i + 2 * half] * factor, o_[4 * i + 2 * half + 1] * factor}};
      if (weights.first != 0.0f) {
        const FloatPair before = load_aligned<FloatPair>(out + 8 * i);
        sum.values[0] += weights.first * before.values[0];
        sum.values[1] += weights.first * before.values[1];
      }
      store_aligned(out + 8 * i, sum);
    }
    if (lane_index() % 4 == 0) *lse(row) = weights.lse;
  }

  const PortableParameters& parameters_;
  int tile_;
  TileWork work_;
  SharedAddress shared_;
  KeyInterval keys_[2];  // that the thread's rows see
  RowState state_;
  FragmentA q_[Tile::keeps_queries ? Tile::head_dim / 16 : 1];
  float s_[Tile::keys / 2];
  std::uint32_t p_[Tile::keys / 4];
  float o_[Tile::head_dim / 2] = {};
};

/// Grid: a block per tile, in the order of the scheduler (the longest first under a causal mask).
template <class Tile>
__global__ void __launch_bounds__(Tile::threads, Tile::blocks_per_sm)
    portable_kernel(const LONGHAUL_GRID_CONSTANT PortableParameters parameters) {
  PortableForward<Tile>(parameters, static_cast<int>(blockIdx.x)).run();
}

}  // namespace longhaul::kernels::flash
