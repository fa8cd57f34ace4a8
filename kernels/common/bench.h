#pragma once
// What a bench prints and records of one point.

#include "kernels/common/results.h"
#include "kernels/common/timing.h"

namespace longhaul::kernels {

/// The work of one call, as the README of the kernel defines it. Zero: not told.
struct Work {
  double bytes = 0;
  double flops = 0;
};

/// Prints one line of the table (`what`, time, spread, GB/s and TFLOP/s, host time) and records it
/// with the clocks of this moment.
void report(Results& results, const std::string& what, const Fields& shape, const Work& work,
            const Timing& timing);

}  // namespace longhaul::kernels
