#include "kernels/copy/launch.h"

#include <algorithm>
#include <cstdint>
#include <stdexcept>

#include "kernels/common/arithmetic.h"
#include "kernels/common/cuda_error.h"
#include "kernels/copy/kernel.cuh"

namespace longhaul::kernels {

void copy(const void* in, void* out, std::size_t bytes, cudaStream_t stream) {
  constexpr std::size_t vector = sizeof(uint4);
  const auto misfit = reinterpret_cast<std::uintptr_t>(in) | reinterpret_cast<std::uintptr_t>(out);
  if ((misfit | bytes) % vector != 0) {
    throw std::invalid_argument("copy: size and addresses must be multiples of 16 bytes");
  }
  if (bytes == 0) return;
  constexpr std::size_t threads = 256;
  constexpr std::size_t most_blocks = 8192;  // some dozens an SM: enough to even out the tail
  const std::size_t vectors = bytes / vector;
  const std::size_t blocks = std::min(ceil_div(vectors, threads), most_blocks);
  copy_kernel<<<static_cast<unsigned>(blocks), threads, 0, stream>>>(
      static_cast<const uint4*>(in), static_cast<uint4*>(out), vectors);
  check_launch("copy");
}

}  // namespace longhaul::kernels
