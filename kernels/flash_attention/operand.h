#pragma once
// Where an element of Q, K or V lies in shared memory, and the descriptors by which wgmma finds it.
//
// TMA writes a box of `rows` x 64 bf16 elements as rows of 128 bytes and, with its 128-byte
// swizzle, exchanges the 16-byte chunks of a row: chunk c of row r goes to place c ^ (r mod 8).
// wgmma undoes that while it reads, if its descriptor says "128-byte swizzle" too. Both work on
// address bits (bits 4-6 ^= bits 7-9), so every panel begins at a multiple of 1024 bytes. Sources:
// PTX ISA, "Asynchronous Warpgroup Level Matrix Shared Memory Layout" (matrix descriptor, strides)
// and "Tensors: swizzling modes"; the canonical layouts are those of CUTLASS's
// mma_traits_sm90_gmma.hpp, in units of 16 bytes:
//   K-major,  B128: ((8,n),2)    : ((8,SBO),1)
//   MN-major, B128: ((8,n),(8,k)): ((1,LBO),(8,SBO))

#include <cstdint>

#include "kernels/common/host_device.h"
#include "kernels/flash_attention/tile_shape.h"

namespace longhaul::kernels::flash {

/// Matrix descriptor: bits 0-13 address / 16, 16-29 leading dimension byte offset / 16, 32-45
/// stride dimension byte offset / 16, 62-63 swizzle (1: 128 bytes). Bits 49-51 (base offset) stay 0
/// for panels aligned to 1024 bytes.
LONGHAUL_HOST_DEVICE constexpr std::uint64_t descriptor(std::uint32_t address,
                                                        std::uint32_t leading_bytes,
                                                        std::uint32_t stride_bytes) {
  return static_cast<std::uint64_t>((address & 0x3ffffu) >> 4) |
         static_cast<std::uint64_t>(leading_bytes >> 4) << 16 |
         static_cast<std::uint64_t>(stride_bytes >> 4) << 32 | std::uint64_t{1} << 62;
}

/// Eight rows of a panel: the stride dimension of both majors.
inline constexpr std::uint32_t eight_rows = 8 * panel_row_bytes;

/// Q or K as an operand whose columns (the head dimension) are summed over: K-major. Groups of
/// eight rows follow at 1024 bytes; the leading offset is not used by swizzled K-major layouts (1
/// by custom).
LONGHAUL_HOST_DEVICE constexpr std::uint64_t k_major_descriptor(std::uint32_t address) {
  return descriptor(address, 16, eight_rows);
}

/// What to add to a K-major descriptor for the `step`-th 16 columns: 32 bytes, and a panel of
/// `rows` rows after every fourth.
LONGHAUL_HOST_DEVICE constexpr std::uint64_t k_major_step(int rows, int step) {
  return static_cast<std::uint64_t>((step / 4 * rows * panel_row_bytes + step % 4 * 32) >> 4);
}

/// V as an operand whose rows (the keys) are summed over: MN-major. Groups of 64 columns follow one
/// panel of `rows` rows apart, groups of eight keys 1024 bytes apart.
LONGHAUL_HOST_DEVICE constexpr std::uint64_t mn_major_descriptor(std::uint32_t address, int rows) {
  return descriptor(address, static_cast<std::uint32_t>(rows * panel_row_bytes), eight_rows);
}

/// What to add to an MN-major descriptor for the `step`-th 16 keys: 16 rows.
LONGHAUL_HOST_DEVICE constexpr std::uint64_t mn_major_step(int step) {
  return static_cast<std::uint64_t>((step * 16 * panel_row_bytes) >> 4);
}

/// Where thread `thread` of a warpgroup has its registers in a 64 x N accumulator of wgmma (PTX
/// ISA, "Matrix Fragments for wgmma.mma_async.m64nNk16"): register i holds row fragment_row + 8 (i
/// / 2 mod 2) and column fragment_column + 8 (i / 4) + i mod 2. The half registers of an A operand
/// of 64 x 16 follow the same rule, so that 8 consecutive accumulators, rounded and packed in
/// pairs, are the A operand of 16 columns.
LONGHAUL_HOST_DEVICE constexpr int fragment_row(int thread) {
  return thread / 32 * 16 + thread % 32 / 4;
}
LONGHAUL_HOST_DEVICE constexpr int fragment_column(int thread) { return thread % 4 * 2; }

}  // namespace longhaul::kernels::flash
