// The forward kernels for head dimension 128.
#include "kernels/flash_attention/forward.cuh"
#include "kernels/flash_attention/forward_kernel.h"

namespace longhaul::kernels::flash {

ForwardKernel forward_kernel_128(bool rectangular) {
  return rectangular ? describe_kernel<TileShape<128, true>>()
                     : describe_kernel<TileShape<128, false>>();
}

}  // namespace longhaul::kernels::flash
