// The forward kernel for head dimension 64.
#include "kernels/flash_attention/forward.cuh"
#include "kernels/flash_attention/forward_kernel.h"

namespace longhaul::kernels::flash {

ForwardKernel forward_kernel_64() { return describe_kernel<TileShape<64, false>>(); }

}  // namespace longhaul::kernels::flash
