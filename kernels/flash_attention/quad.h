#pragma once
// Turning four threads' columns into rows: how a quad writes 16 bytes a thread.

#include <cstdint>

#include "kernels/common/host_device.h"

namespace longhaul::kernels::flash {

/// The four threads of a quad transpose a 4 x 4 matrix of which each holds a column: in two rounds,
/// bit 1 and bit 2, thread `lane` sends one of the elements (i, i | bit) to thread lane ^ bit and
/// keeps the other. After both, element i of thread q is what element q of thread i was.
LONGHAUL_HOST_DEVICE constexpr std::uint32_t quad_sends(int lane, int bit, std::uint32_t low,
                                                        std::uint32_t high) {
  return (lane & bit) != 0 ? low : high;
}

/// Puts what came from the other thread in the place of what was sent.
LONGHAUL_HOST_DEVICE constexpr void quad_receives(int lane, int bit, std::uint32_t received,
                                                  std::uint32_t& low, std::uint32_t& high) {
  if ((lane & bit) != 0) {
    low = received;
  } else {
    high = received;
  }
}

}  // namespace longhaul::kernels::flash
