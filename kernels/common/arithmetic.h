#pragma once
// Whole-number arithmetic of grids and tiles.

#include "kernels/common/host_device.h"

namespace longhaul::kernels {

/// Least n with n * divisor >= value, for value >= 0 and divisor > 0.
template <class Integer>
LONGHAUL_HOST_DEVICE constexpr Integer ceil_div(Integer value, Integer divisor) {
  return (value + divisor - 1) / divisor;
}

}  // namespace longhaul::kernels
