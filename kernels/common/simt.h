#pragma once
// The words of a kernel: CUDA's, or, where LONGHAUL_EMULATED_GPU is defined, those of
// emulated_gpu.h for a C++ compiler. A kernel written with what stands here runs on both, and so
// does the function that launches it.

#include <cstddef>
#include <cstdint>

#include "kernels/common/host_device.h"
#include "kernels/common/stream.h"

#if !defined(LONGHAUL_EMULATED_GPU)
#include <cuda_runtime.h>

#include "kernels/common/cuda_error.h"
#endif

// Unrolls the loop behind it once only: more copies in flight would take more registers for
// addresses.
#if defined(__CUDA_ARCH__)
#define LONGHAUL_UNROLL_TWICE _Pragma("unroll 2")
#else
#define LONGHAUL_UNROLL_TWICE
#endif

// A kernel's parameter that is read where the launch put it, and not copied to local memory.
#if !defined(LONGHAUL_EMULATED_GPU)
#define LONGHAUL_GRID_CONSTANT __grid_constant__
#else
#define LONGHAUL_GRID_CONSTANT
#endif

namespace longhaul::kernels {

/// Where and how a kernel runs.
struct Grid {
  unsigned blocks = 1;
  unsigned threads = 32;         ///< per block, a multiple of 32
  std::size_t shared_bytes = 0;  ///< dynamic shared memory per block
  Stream stream{};
};

/// Launches `kernel`. On the GPU throws CudaError if the launch is refused; does not wait.
template <class... Parameters, class... Arguments>
void launch(const Grid& grid, void (*kernel)(Parameters...), const Arguments&... arguments) {
  if (grid.blocks == 0) return;
#if !defined(LONGHAUL_EMULATED_GPU)
  constexpr std::size_t without_asking = 48 * 1024;  // CUDA programming guide: more is opt-in
  if (grid.shared_bytes > without_asking) {
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(grid.shared_bytes)),
               "dynamic shared memory");
  }
  kernel<<<grid.blocks, grid.threads, grid.shared_bytes, grid.stream>>>(arguments...);
  check_launch("kernel launch");
#else
  emulated::run_grid(grid.blocks, grid.threads, grid.shared_bytes, [&] { kernel(arguments...); });
#endif
}

/// The block's dynamic shared memory, 1024-byte aligned.
__device__ __forceinline__ std::byte* dynamic_shared() {
#if !defined(LONGHAUL_EMULATED_GPU)
  extern __shared__ __align__(1024) std::byte bytes[];
  return bytes;
#else
  return emulated::dynamic_shared();
#endif
}

/// This thread's place in its warp.
__device__ __forceinline__ int lane_index() { return static_cast<int>(threadIdx.x % 32); }
/// This thread's warp in its block.
__device__ __forceinline__ int warp_index() { return static_cast<int>(threadIdx.x / 32); }

}  // namespace longhaul::kernels
