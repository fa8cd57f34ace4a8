// The forward kernel for e4m3 operands, head dimension 128.
#include "kernels/flash_attention/forward.cuh"
#include "kernels/flash_attention/forward_kernel.h"

namespace longhaul::kernels::flash {

ForwardKernel forward_kernel_fp8() { return describe_kernel<Fp8TileShape>(); }

}  // namespace longhaul::kernels::flash
