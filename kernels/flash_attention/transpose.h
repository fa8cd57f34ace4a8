#pragma once
// V turned in shared memory for fp8: wgmma takes 8-bit operands only with the summed index, the
// key, running fastest. A panel of V has 128 bytes a row, a key; one of V^T has 128 keys a row, a
// column. Both are swizzled as TMA does (operand.h).
//
// The order of keys within a row of V^T is that of P: the accumulators of S that a thread holds are
// columns 2t, 2t + 1, 8 + 2t, 9 + 2t of 16, but as an 8-bit operand of 32 columns it must give
// columns 4t ... 4t + 3 of each 16. Sums over keys do not care for their order, so V's keys are put
// in P's.

#include <cstdint>

#include "kernels/common/host_device.h"
#include "kernels/flash_attention/tile_shape.h"

namespace longhaul::kernels::flash {

/// The key that stands at `position` of a row of V^T.
LONGHAUL_HOST_DEVICE constexpr int key_at(int position) {
  const int thread = position % 16 / 4;
  const int place = position % 4;
  return position / 16 * 16 + 2 * thread + place % 2 + place / 2 * 8;
}

/// Byte offset of word `word` (4 bytes) of row `row` in panels of `rows` rows of 128 bytes.
LONGHAUL_HOST_DEVICE constexpr std::uint32_t word_offset(int rows, int row, int word) {
  const int panel = word / 32;
  const int chunked = word % 32 * 4 ^ (row & 7) << 4;
  return static_cast<std::uint32_t>((panel * rows + row) * panel_row_bytes + chunked);
}

/// A block of 4 positions x 4 columns that one thread turns. 32 threads take 8 x 4 blocks, of which
/// each access of theirs meets every bank at most twice.
struct TurnBlock {
  int positions = 0;  // 4 positions ... 4 positions + 3
  int columns = 0;    // 4 columns ... 4 columns + 3
};
LONGHAUL_HOST_DEVICE constexpr TurnBlock turn_block(int keys, int index) {
  const int high = index / 32;
  const int groups = keys / 32;
  return {high % groups * 8 + index % 8, high / groups * 4 + index / 8 % 4};
}

/// Bytes of `a` (0-3) and `b` (4-7), chosen by the four low hexadecimal digits of `choice`, lowest
/// first: the GPU's byte permutation.
LONGHAUL_HOST_DEVICE constexpr std::uint32_t choose_bytes(std::uint32_t a, std::uint32_t b,
                                                          std::uint32_t choice) {
#if defined(__CUDA_ARCH__)
  return __byte_perm(a, b, choice);
#else
  const std::uint64_t both = static_cast<std::uint64_t>(b) << 32 | a;
  std::uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    const std::uint32_t which = choice >> (4 * i) & 7;
    result |= static_cast<std::uint32_t>(both >> (8 * which) & 0xff) << (8 * i);
  }
  return result;
#endif
}

/// Transposes 4 x 4 bytes: word i byte j becomes word j byte i.
LONGHAUL_HOST_DEVICE constexpr void transpose_bytes(std::uint32_t (&words)[4]) {
  const std::uint32_t low01 = choose_bytes(words[0], words[1], 0x5140);
  const std::uint32_t low23 = choose_bytes(words[2], words[3], 0x5140);
  const std::uint32_t high01 = choose_bytes(words[0], words[1], 0x7362);
  const std::uint32_t high23 = choose_bytes(words[2], words[3], 0x7362);
  words[0] = choose_bytes(low01, low23, 0x5410);
  words[1] = choose_bytes(low01, low23, 0x7632);
  words[2] = choose_bytes(high01, high23, 0x5410);
  words[3] = choose_bytes(high01, high23, 0x7632);
}

}  // namespace longhaul::kernels::flash
