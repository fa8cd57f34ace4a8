#include "kernels/common/roofline.h"

#include <algorithm>
#include <cstdio>

#include "kernels/common/cuda_error.h"

namespace longhaul::kernels {

namespace {

double attribute(cudaDeviceAttr which) {
  int index = 0;
  int value = 0;
  check_cuda(cudaGetDevice(&index), "cudaGetDevice");
  check_cuda(cudaDeviceGetAttribute(&value, which, index), "cudaDeviceGetAttribute");
  return value;
}

// Dense bf16 FLOPs a clock and SM: NVIDIA H100 white paper (989.4 TFLOP/s of 132 SMs at 1830 MHz)
// and A100 white paper (312 TFLOP/s of 108 SMs at 1410 MHz). 0: not known here.
double flops_per_clock(Capability capability) {
  if (capability == Capability{9, 0}) return 4096;
  return capability == Capability{8, 0} ? 2048 : 0;
}

}  // namespace

void report_roofline(const Device& device, const Work& work, const Timing& timing,
                     double speedup) {
  const double clock = 1e3 * attribute(cudaDevAttrClockRate);
  const double peak = speedup * flops_per_clock(device.capability) * device.sms * clock;
  if (peak == 0) return;
  // Two transfers a clock on all wires.
  const double bandwidth = 2e3 * attribute(cudaDevAttrMemoryClockRate) *
                           attribute(cudaDevAttrGlobalMemoryBusWidth) / 8;
  const double least_s = std::max(work.flops / peak, work.bytes / bandwidth);
  std::printf("%-48s %10.1f %% of the roofline\n", "", 1e8 * least_s / timing.median_us);
}

}  // namespace longhaul::kernels
