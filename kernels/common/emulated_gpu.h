#pragma once
// CUDA's execution model on one CPU thread, so that the very source of a kernel can be run, checked
// and sanitized on a machine without a GPU. Included by simt.h where the compiler is not nvcc.
//
// A block's threads are fibers that take turns; one runs until it waits for others (a barrier, a
// shuffle, a tensor-core instruction). Blocks run one after the other, so `__shared__` memory is
// static memory. What it proves: index arithmetic, barriers reached by all, the values. What it
// does not: speed, the memory model between warps, the precision of the GPU's approximate
// functions.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#define __global__ inline
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)

namespace longhaul::kernels {

/// Position of a thread or block, or their number: only x is used by our kernels.
struct EmulatedIndex {
  unsigned x = 0;
};

namespace emulated {

/// Runs `body` for every thread of `blocks` blocks of `threads` threads (a multiple of 32), each
/// block with `shared_bytes` of dynamic shared memory filled with bytes 0xff. `order` permutes the
/// turns of the threads of a block, since no kernel may depend on them.
/// Throws what `body` throws, and BugError if threads wait for others that have returned.
void run_grid(unsigned blocks, unsigned threads, std::size_t shared_bytes,
              const std::function<void()>& body);

/// The seed of the order of turns in later grids; 0: by thread index.
void set_order(std::uint64_t seed);

/// Cuts later grids to `blocks` blocks, 0: not at all. Kernels whose blocks go on to further work
/// must give the same results.
void set_most_blocks(unsigned blocks);

/// Waits until all threads of the block, or of the warp, have come here.
void wait_for_block();
void wait_for_warp();

/// Lets other threads run, and comes back with the next turn: for loops that wait for memory.
void yield_turn();

/// The dynamic shared memory of the running block, 1024-byte aligned.
std::byte* dynamic_shared();

/// Bytes of the dynamic shared memory of the running block.
std::size_t dynamic_shared_bytes();

inline constexpr std::size_t lane_bytes = 64;

/// Leaves `size` <= lane_bytes bytes for the other lanes of the warp, waits for all lanes, and
/// returns what they left: lane l's at l * lane_bytes, valid until the warp's next exchange.
const std::byte* exchange(const void* mine, std::size_t size);

/// What all lanes of the warp hold in `mine`.
template <class T>
std::array<T, 32> gather(const T& mine) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= lane_bytes);
  const std::byte* left = exchange(&mine, sizeof(T));
  std::array<T, 32> all;
  for (std::size_t lane = 0; lane < 32; ++lane) {
    std::memcpy(&all[lane], left + lane * lane_bytes, sizeof(T));
  }
  return all;
}

/// An asynchronous copy of this thread (cp.async): `size` bytes from `from`, zeros up to 16.
/// Nothing is moved before the wait that asks for its group, so that a wait that is missing shows.
void copy_later(void* to, const void* from, std::size_t size);

/// Closes this thread's group of copies.
void commit_copies();

/// Does all but the latest `pending` groups of this thread.
void wait_for_copies(int pending);

}  // namespace emulated

/// Stands for a CUDA stream; launches are finished when they return.
struct EmulatedStream {};

}  // namespace longhaul::kernels

// CUDA's own names, which kernels use as on the GPU.
extern longhaul::kernels::EmulatedIndex threadIdx, blockIdx, blockDim, gridDim;

inline void __syncthreads() { longhaul::kernels::emulated::wait_for_block(); }
inline void __syncwarp() { longhaul::kernels::emulated::wait_for_warp(); }

template <class T>
T __shfl_xor_sync(unsigned /*mask*/, T value, int lanes) {
  return longhaul::kernels::emulated::gather(value)[(threadIdx.x % 32) ^ lanes];
}
template <class T>
T __shfl_sync(unsigned /*mask*/, T value, int lane) {
  return longhaul::kernels::emulated::gather(value)[lane % 32];
}
