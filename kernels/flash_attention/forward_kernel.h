#pragma once
// The compiled forward kernels, one source file per head dimension.

namespace longhaul::kernels::flash {

/// A kernel as launch.cu needs it: its argument is one ForwardParameters.
struct ForwardKernel {
  const void* function = nullptr;
  int threads = 0;       // of a block
  int shared_bytes = 0;  // dynamic, of a block
  int rows = 0;          // tile
  int keys = 0;
};

/// `rectangular`: every row sees the same keys; only head dimension 128 has a tile of its own then.
ForwardKernel forward_kernel_64();
ForwardKernel forward_kernel_128(bool rectangular);
ForwardKernel forward_kernel_256();
ForwardKernel forward_kernel_fp8();  // head dimension 128

}  // namespace longhaul::kernels::flash
