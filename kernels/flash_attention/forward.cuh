#pragma once
// The Hopper forward kernel: pipeline.h's control flow carried out by TMA, mbarriers and wgmma.

#include <cstdint>

#include "kernels/common/simt.h"
#include "kernels/flash_attention/forward_kernel.h"
#include "kernels/flash_attention/forward_parameters.h"
#include "kernels/flash_attention/operand.h"
#include "kernels/flash_attention/pipeline.h"
#include "kernels/flash_attention/quad.h"
#include "kernels/flash_attention/softmax.h"
#include "kernels/flash_attention/transpose.h"

#if defined(LONGHAUL_EMULATED_GPU)
#include "kernels/flash_attention/emulated_instructions.h"
#else
#include "kernels/flash_attention/ptx.cuh"
#include "kernels/flash_attention/wgmma.cuh"
#endif

namespace longhaul::kernels::flash {

/// The instructions for operands of `element_bytes`.
template <int element_bytes>
struct ProductsOf {
  template <int n>
  using Scores = Wgmma<n>;
  template <int n>
  using Values = Wgmma<n>;
};
template <>
struct ProductsOf<1> {
  template <int n>
  using Scores = WgmmaFp8<n>;
  template <int n>
  using Values = WgmmaFp8<n>;
};

/// The block's shared memory with its barriers.
template <class Shape>
struct SharedMemory : MemoryMap<Shape> {
  using Layout = BarrierLayout<Shape>;
  using MemoryMap<Shape>::barrier;
  __device__ explicit SharedMemory(std::uint32_t start)
      : MemoryMap<Shape>{(start + panel_alignment - 1) / panel_alignment * panel_alignment} {}

  __device__ __forceinline__ void wait(Barrier which, int stage, int phase) const {
    while (!phase_over(barrier(which, stage), phase)) {
    }
  }
  // By one thread; the block must synchronise before the first use.
  __device__ void init_barriers() const {
    const Barrier single[] = {Barrier::q_full, Barrier::q_empty};
    for (const Barrier which : single) init_barrier(barrier(which, 0), Layout::arrivals(which));
    const Barrier staged[] = {Barrier::k_full, Barrier::k_empty, Barrier::v_full, Barrier::v_empty};
    for (const Barrier which : staged) {
      for (int stage = 0; stage < Shape::stages; ++stage) {
        init_barrier(barrier(which, stage), Layout::arrivals(which));
      }
    }
    for (int stage = 0; Shape::turns_v && stage < Shape::stages; ++stage) {
      for (const Barrier which : {Barrier::loaded_v_full, Barrier::loaded_v_empty}) {
        init_barrier(barrier(which, stage), Layout::arrivals(which));
      }
    }
    for (int slot = 0; slot < tile_slots; ++slot) {
      init_barrier(barrier(Barrier::tile_full, slot), Layout::arrivals(Barrier::tile_full));
      init_barrier(barrier(Barrier::tile_empty, slot), Layout::arrivals(Barrier::tile_empty));
    }
    publish_barriers();
  }
};

/// Producer's machine, run by a single thread.
template <class Shape>
class CopyMachine {
 public:
  __device__ CopyMachine(const ForwardParameters& parameters, SharedMemory<Shape> memory)
      : parameters_(parameters), memory_(memory) {
    prefetch_map(parameters.q);
    prefetch_map(parameters.k);
    prefetch_map(parameters.v);
  }

  __device__ __forceinline__ int first_tile() const { return static_cast<int>(blockIdx.x); }
  __device__ __forceinline__ int next_tile(int tile) const {
    const int blocks = static_cast<int>(gridDim.x);
    return parameters_.counter ? blocks + atomicAdd(parameters_.counter, 1) : tile + blocks;
  }

  __device__ __forceinline__ void wait(Barrier which, int stage, int phase) const {
    memory_.wait(which, stage, phase);
  }

  __device__ __forceinline__ void publish(int slot, int tile) const {
    store_shared(memory_.tile(slot), tile);
    arrive(memory_.barrier(Barrier::tile_full, slot));
  }

  __device__ __forceinline__ void load_q(const TileWork& work) const {
    copy<Shape::rows>(parameters_.q, memory_.barrier(Barrier::q_full, 0), memory_.q(),
                      query_box(work));
  }
  __device__ __forceinline__ void load_k(int stage, const TileWork& work, int n) const {
    copy<Shape::keys>(parameters_.k, memory_.barrier(Barrier::k_full, stage), memory_.k(stage),
                      key_box<Shape::keys>(work, n));
  }
  __device__ __forceinline__ void load_v(int stage, const TileWork& work, int n) const {
    constexpr Barrier full = Shape::turns_v ? Barrier::loaded_v_full : Barrier::v_full;
    copy<Shape::keys>(parameters_.v, memory_.barrier(full, stage), memory_.loaded_v(stage),
                      key_box<Shape::keys>(work, n));
  }

  /// The last block to end puts the counter back to 0 for the next call.
  __device__ void finish() const {
    if (!parameters_.counter) return;
    const int ended = atomicAdd(parameters_.counter + 1, 1);
    if (ended != static_cast<int>(gridDim.x) - 1) return;
    atomicExch(parameters_.counter, 0);
    atomicExch(parameters_.counter + 1, 0);
  }

 private:
  // Panel by panel; the barrier waits for the bytes of whole boxes.
  template <int rows>
  __device__ __forceinline__ void copy(const TensorMap& map, std::uint32_t barrier,
                                       std::uint32_t destination, BoxPlace place) const {
    arrive_expecting(barrier, rows * Shape::head_dim * Shape::element_bytes);
    LONGHAUL_UNROLL
    for (int panel = 0; panel < Shape::panels; ++panel) {
      copy_box(map, barrier, destination + panel * rows * panel_row_bytes,
               panel * panel_row_bytes / Shape::element_bytes, place.row, place.head, place.batch);
    }
  }

  const ForwardParameters& parameters_;
  SharedMemory<Shape> memory_;
};

/// Machine of a warp that turns V.
template <class Shape>
class TurnMachine {
 public:
  __device__ explicit TurnMachine(SharedMemory<Shape> memory) : memory_(memory) {}

  __device__ __forceinline__ void wait(Barrier which, int stage, int phase) const {
    memory_.wait(which, stage, phase);
  }
  __device__ __forceinline__ void release(Barrier which, int stage) const {
    __syncwarp();
    if (threadIdx.x % 32 == 0) arrive(memory_.barrier(which, stage));
  }
  __device__ __forceinline__ int read_tile(int slot) const {
    return load_shared(memory_.tile(slot));
  }

  __device__ __forceinline__ void turn(int stage) const {
    constexpr int blocks = Shape::keys / 4 * (Shape::head_dim / 4);
    for (int i = static_cast<int>(threadIdx.x) - 32; i < blocks; i += 32 * turning_warps) {
      const TurnBlock block = turn_block(Shape::keys, i);
      std::uint32_t words[4];
      LONGHAUL_UNROLL
      for (int j = 0; j < 4; ++j) {
        const int key = key_at(4 * block.positions + j);
        words[j] = static_cast<std::uint32_t>(
            load_shared(memory_.loaded_v(stage) + word_offset(Shape::keys, key, block.columns)));
      }
      transpose_bytes(words);
      LONGHAUL_UNROLL
      for (int j = 0; j < 4; ++j) {
        store_shared(
            memory_.v(stage) + word_offset(Shape::head_dim, 4 * block.columns + j, block.positions),
            static_cast<int>(words[j]));
      }
    }
    publish_to_products();
  }

 private:
  SharedMemory<Shape> memory_;
};

/// Largest of a quad's values, and their sum.
__device__ __forceinline__ float quad_max(float value) {
  value = fmaxf(value, __shfl_xor_sync(~0u, value, 1));
  return fmaxf(value, __shfl_xor_sync(~0u, value, 2));
}
__device__ __forceinline__ float quad_sum(float value) {
  value += __shfl_xor_sync(~0u, value, 1);
  return value + __shfl_xor_sync(~0u, value, 2);
}

/// Consumer's machine: one warpgroup, 64 rows of the tile.
template <class Shape>
class ComputeMachine {
  using Products = ProductsOf<Shape::element_bytes>;

 public:
  __device__ __forceinline__ ComputeMachine(const ForwardParameters& parameters,
                                            SharedMemory<Shape> memory)
      : parameters_(parameters),
        memory_(memory),
        // Through a shuffle, which tells the compiler that it is the same for the whole warp.
        warpgroup_(__shfl_sync(~0u, static_cast<int>(threadIdx.x) / 128, 0) - 1),
        thread_(static_cast<int>(threadIdx.x) % 128) {}

  __device__ __forceinline__ void wait(Barrier which, int stage, int phase) const {
    memory_.wait(which, stage, phase);
  }
  // Each warp arrives once all its lanes are here: its own products are done, its reads as well.
  __device__ __forceinline__ void release(Barrier which, int stage) const {
    __syncwarp();
    if (thread_ % 32 == 0) arrive(memory_.barrier(which, stage));
  }
  __device__ __forceinline__ int read_tile(int slot) const {
    const int tile = load_shared(memory_.tile(slot));
    return __shfl_sync(~0u, tile, 0);
  }

  // Turns: warpgroup w waits at its own barrier for the one before it. The last gives the first its
  // first turn, and the first takes up the last pass, so that no arrival is left over.
  __device__ __forceinline__ void first_turn() const {
    if (Shape::takes_turns && warpgroup_ == Shape::warpgroups - 1) pass_turn();
  }
  __device__ __forceinline__ void take_turn() const {
    if (Shape::takes_turns) named_wait(1 + warpgroup_, 256);
  }
  __device__ __forceinline__ void pass_turn() const {
    if (!Shape::takes_turns) return;
    named_arrive(1 + (warpgroup_ == Shape::warpgroups - 1 ? 0 : warpgroup_ + 1), 256);
  }
  __device__ __forceinline__ void last_turn() const {
    if (Shape::takes_turns && warpgroup_ == 0) take_turn();
  }

  __device__ __forceinline__ void begin(const TileWork& work) {
    state_ = RowState{};
    keys_[0] = keys_of_row(work.mask, own_row(work));
    keys_[1] = keys_of_row(work.mask, own_row(work) + 8);
    LONGHAUL_UNROLL
    for (int i = 0; i < Shape::head_dim / 2; ++i) o_[i] = 0.0f;
  }

  __device__ __forceinline__ TileRange tiles(const TileWork& work) const {
    const int begin = own_rows(work);
    return within(tiles_of_rows(work.mask, begin, smaller(work.q_len, begin + 64), Shape::keys),
                  work.tiles);
  }

  __device__ __forceinline__ void start_scores(int stage) {
    const std::uint64_t q = k_major_descriptor(memory_.q() + warpgroup_ * 64 * panel_row_bytes);
    const std::uint64_t k = k_major_descriptor(memory_.k(stage));
    pin(s_);
    wgmma_fence();
    LONGHAUL_UNROLL
    for (int step = 0; step < Shape::head_dim * Shape::element_bytes / 32; ++step) {
      Products::template Scores<Shape::keys>::scores(s_, q + k_major_step(Shape::rows, step),
                                                     k + k_major_step(Shape::keys, step), step > 0);
    }
    wgmma_commit();
  }

  __device__ __forceinline__ void start_values(int stage) {
    const std::uint64_t v = Shape::turns_v ? k_major_descriptor(memory_.v(stage))
                                           : mn_major_descriptor(memory_.v(stage), Shape::keys);
    pin(o_);
    pin(p_);
    wgmma_fence();
    LONGHAUL_UNROLL
    for (int step = 0; step < Shape::keys * Shape::element_bytes / 32; ++step) {
      const std::uint64_t offset =
          Shape::turns_v ? k_major_step(Shape::head_dim, step) : mn_major_step(step);
      Products::template Values<Shape::head_dim>::values(
          o_, p_[4 * step], p_[4 * step + 1], p_[4 * step + 2], p_[4 * step + 3], v + offset);
    }
    wgmma_commit();
  }

  // Groups end in order: with the values' group issued after the scores', one may still run.
  __device__ __forceinline__ void finish_scores(bool alone) {
    if (alone) {
      wgmma_wait<0>();
    } else {
      wgmma_wait<1>();
    }
    pin(s_);
  }
  __device__ __forceinline__ void finish_values() {
    wgmma_wait<0>();
    pin(o_);
    pin(p_);
  }

  template <bool masked>
  __device__ __forceinline__ void softmax(int n) {
    if (masked) mask_scores(s_, keys_, n * Shape::keys + fragment_column(thread_));
    float maxima[2] = {state_.maximum[0], state_.maximum[1]};
    raise_maxima(s_, maxima);
    float exponent[2];
    LONGHAUL_UNROLL
    for (int row = 0; row < 2; ++row) {
      shrink_[row] =
          next_maximum(state_, row, quad_max(maxima[row]), parameters_.scale_log2, exponent[row]);
      exponent[row] -= static_cast<float>(Shape::p_shift);
    }
    exponentiate(s_, state_, parameters_.scale_log2, exponent);
  }

  __device__ __forceinline__ void round_p() {
    LONGHAUL_UNROLL
    for (int i = 0; i < p_registers; ++i) {
      if constexpr (Shape::element_bytes == 2) {
        p_[i] = pack_bf16(s_[2 * i], s_[2 * i + 1]);
      } else {
        // Register i of 32 columns: row half i mod 2, the first or second 16 columns (transpose.h).
        const int at = i / 4 * 16 + i / 2 % 2 * 8 + i % 2 * 2;
        p_[i] = pack_fp8(s_[at], s_[at + 1], s_[at + 4], s_[at + 5]);
      }
    }
  }

  __device__ __forceinline__ void shrink_o() {
    LONGHAUL_UNROLL
    for (int i = 0; i < Shape::head_dim / 2; ++i) o_[i] *= shrink_[i / 2 % 2];
  }

  __device__ __forceinline__ void store(const TileWork& work) {
    RowResult result[2];
    LONGHAUL_UNROLL
    for (int row = 0; row < 2; ++row) {
      result[row] = finish_row(state_.maximum[row], quad_sum(state_.sum[row]),
                               parameters_.scale_log2, Shape::p_shift);
      result[row].factor *= parameters_.v_scale;
    }
    if (parameters_.output.running_o) {
      join(work, result);
    } else {
      write(work, result);
    }
  }

 private:
  __device__ __forceinline__ int own_rows(const TileWork& work) const {
    return work.row_begin + warpgroup_ * 64;
  }
  // The first of the thread's rows, within the sequence; the second is 8 further.
  __device__ __forceinline__ int own_row(const TileWork& work) const {
    return own_rows(work) + fragment_row(thread_);
  }
  __device__ __forceinline__ long long o_element(const TileWork& work, int row) const {
    return output_index(parameters_.problem, work, row) * Shape::head_dim;
  }
  __device__ __forceinline__ float& lse(const TileWork& work, int row) const {
    return parameters_.output.lse[lse_index(parameters_.problem, work, row)];
  }

  // O as bf16, 16 bytes a thread: a quad exchanges its columns of four groups of eight.
  __device__ __forceinline__ void write(const TileWork& work, const RowResult (&result)[2]) {
    const int lane = thread_ % 4;
    LONGHAUL_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = own_row(work) + 8 * half;
      const bool inside = row < work.q_len;
      std::uint16_t* out = static_cast<std::uint16_t*>(parameters_.output.o) + o_element(work, row);
      LONGHAUL_UNROLL
      for (int four = 0; four < Shape::head_dim / 32; ++four) {
        std::uint32_t part[4];
        LONGHAUL_UNROLL
        for (int i = 0; i < 4; ++i) {
          const int at = group_register(4 * four + i, half);
          part[i] = pack_bf16(o_[at] * result[half].factor, o_[at + 1] * result[half].factor);
        }
        transpose(part, lane);
        if (inside) {
          *reinterpret_cast<uint4*>(out + exchanged_column(four, lane)) =
              make_uint4(part[0], part[1], part[2], part[3]);
        }
      }
      if (inside && lane == 0) lse(work, row) = result[half].lse;
    }
  }

  __device__ __forceinline__ static void transpose(std::uint32_t (&part)[4], int lane) {
    LONGHAUL_UNROLL
    for (int bit = 1; bit <= 2; bit *= 2) {
      LONGHAUL_UNROLL
      for (int i = 0; i < 4; ++i) {
        if ((i & bit) != 0) continue;
        const std::uint32_t sent = quad_sends(lane, bit, part[i], part[i | bit]);
        quad_receives(lane, bit, __shfl_xor_sync(~0u, sent, bit), part[i], part[i | bit]);
      }
    }
  }

  // Joins with the running O and LSE, in fp32.
  __device__ __forceinline__ void join(const TileWork& work, const RowResult (&result)[2]) {
    MergeWeights weights[2];
    LONGHAUL_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = own_row(work) + 8 * half;
      const float before = row < work.q_len ? lse(work, row) : minus_infinity;
      weights[half] = merge_weights(before, result[half].lse);
    }
    __syncwarp();  // all of a quad have read the LSE that its first lane now writes
    LONGHAUL_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = own_row(work) + 8 * half;
      if (row >= work.q_len || result[half].lse == minus_infinity) continue;
      const float factor = weights[half].second * result[half].factor;
      float2* out = reinterpret_cast<float2*>(parameters_.output.running_o + o_element(work, row) +
                                              fragment_column(thread_));
      LONGHAUL_UNROLL
      for (int i = 0; i < Shape::head_dim / 8; ++i) {
        const int at = group_register(i, half);
        const bool reads = weights[half].first != 0.0f;
        const float2 before = reads ? out[4 * i] : make_float2(0.0f, 0.0f);
        out[4 * i] = make_float2(fmaf(o_[at], factor, before.x * weights[half].first),
                                 fmaf(o_[at + 1], factor, before.y * weights[half].first));
      }
      if (thread_ % 4 == 0) lse(work, row) = weights[half].lse;
    }
  }

  const ForwardParameters& parameters_;
  SharedMemory<Shape> memory_;
  int warpgroup_;
  int thread_;
  KeyInterval keys_[2];  // that the thread's two rows see
  RowState state_;
  float shrink_[2] = {1, 1};
  float s_[Shape::keys / 2];
  static constexpr int p_registers = Shape::keys * Shape::element_bytes / 8;
  std::uint32_t p_[p_registers];
  float o_[Shape::head_dim / 2];
};

/// Forward attention. Grid: at most one block per SM; see ForwardParameters.
template <class Shape>
__global__ void __launch_bounds__(Shape::threads, 1)
    forward_kernel(const __grid_constant__ ForwardParameters parameters) {
  static_assert(Budget<Shape>::holds, "shared memory and registers");
  const SharedMemory<Shape> memory(shared_address(dynamic_shared()));
  if (threadIdx.x == 0) memory.init_barriers();
  __syncthreads();
  if (threadIdx.x < 128) {
    shrink_registers<Shape::producer_registers>();
    if (threadIdx.x == 0) {
      CopyMachine<Shape> machine(parameters, memory);
      Producer<Shape, CopyMachine<Shape>>(machine, parameters.problem).run();
      machine.finish();
    }
    if constexpr (Shape::turns_v) {
      if (threadIdx.x >= 32) {
        TurnMachine<Shape> machine(memory);
        Turner<Shape, TurnMachine<Shape>>(machine, parameters.problem).run();
      }
    }
  } else {
    grow_registers<Shape::consumer_registers>();
    ComputeMachine<Shape> machine(parameters, memory);
    Consumer<Shape, ComputeMachine<Shape>>(machine, parameters.problem).run();
  }
}

#if !defined(LONGHAUL_EMULATED_GPU)
/// The kernel of one shape, for the host.
template <class Shape>
ForwardKernel describe_kernel() {
  return {reinterpret_cast<const void*>(&forward_kernel<Shape>), Shape::threads,
          BarrierLayout<Shape>::launch_bytes, Shape::rows, Shape::keys};
}
#endif

}  // namespace longhaul::kernels::flash
