#pragma once
// The stream a launch is queued on.

#if defined(LONGHAUL_EMULATED_GPU)
#include "kernels/common/emulated_gpu.h"
#else
#include <cuda_runtime_api.h>
#endif

namespace longhaul::kernels {

#if defined(LONGHAUL_EMULATED_GPU)
using Stream = EmulatedStream;
#else
using Stream = cudaStream_t;
#endif

}  // namespace longhaul::kernels
