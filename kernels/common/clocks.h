#pragma once
// Clocks, power and temperature of the GPU, read through NVML where it is installed.

#include "kernels/common/results.h"

namespace longhaul::kernels {

/// sm_clock_mhz, memory_clock_mhz, power_w, temperature and throttle (bit mask of reasons) as they
/// are now; those that NVML does not tell are left out, all of them without NVML.
Fields read_clocks();

/// GPU, driver, CUDA versions, SMs, caches and clocks: what every result must be read with.
/// Throws CudaError without a device.
Fields read_provenance();

}  // namespace longhaul::kernels
