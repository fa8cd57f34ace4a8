// The forward kernel for head dimension 256.
#include "kernels/flash_attention/forward.cuh"
#include "kernels/flash_attention/forward_kernel.h"

namespace longhaul::kernels::flash {

ForwardKernel forward_kernel_256() { return describe_kernel<TileShape<256, false>>(); }

}  // namespace longhaul::kernels::flash
