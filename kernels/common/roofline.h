#pragma once
// The least time in which a GPU can do the work of a call, and the share of it that a kernel reaches.

#include "kernels/common/bench.h"
#include "kernels/common/device.h"

namespace longhaul::kernels {

/// Prints the share of the roofline that a timing reaches: the larger of FLOPs over the tensor
/// cores' peak and bytes over the memory interface's, both at their highest clocks. `speedup`: of
/// the operands' type over bf16 (e4m3: 2). Prints nothing for a GPU whose tensor cores' rate is
/// not known here. Throws CudaError.
void report_roofline(const Device& device, const Work& work, const Timing& timing,
                     double speedup = 1.0);

}  // namespace longhaul::kernels
