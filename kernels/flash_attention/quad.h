#pragma once
// Turning four threads' columns into rows: how a quad writes 16 bytes a thread. A row of O lies in
// groups of eight columns, of which each of the quad's threads holds two neighbours.

#include <cstdint>

#include "kernels/common/host_device.h"

namespace longhaul::kernels::flash {

/// Register of the first of a thread's two columns of a group, in the upper (half 0) or lower
/// (half 1, eight rows further) of its two rows.
LONGHAUL_HOST_DEVICE constexpr int group_register(int group, int half) {
  return 4 * group + 2 * half;
}

/// First column of the eight that thread `lane` of a quad holds once the groups 4 four ... 4 four +
/// 3 are exchanged.
LONGHAUL_HOST_DEVICE constexpr int exchanged_column(int four, int lane) {
  return 32 * four + 8 * lane;
}

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
