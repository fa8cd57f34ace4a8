#pragma once
// A warp's matrix products and its ways to feed them, on GPUs from compute capability 8.0 on, and
// emulated. Layouts: PTX ISA, "Matrix Fragments for mma.m16n8k16" and "ldmatrix".

#include <cstdint>

#include "kernels/common/pack.h"
#include "kernels/common/simt.h"

namespace longhaul::kernels {

/// Operands of one product D = A B + C in bf16 with fp32 sums, as a lane holds them: A is 16 x 16
/// (row by row), B 16 x 8, C and D 16 x 8. With r = fragment_row(lane) and c =
/// fragment_column(lane): A words: (r, c), (r + 8, c), (r, c + 8), (r + 8, c + 8) and the column
/// beside each; B words: rows c, c + 1 and c + 8, c + 9 of column r; C: (r, c), (r, c + 1), (r + 8,
/// c), (r + 8, c + 1).
struct FragmentA {
  std::uint32_t words[4];
};
struct FragmentB {
  std::uint32_t words[2];
};

__device__ __forceinline__ int fragment_row(int lane) { return lane / 4; }
__device__ __forceinline__ int fragment_column(int lane) { return lane % 4 * 2; }

#if defined(LONGHAUL_EMULATED_GPU)
namespace emulated {

struct Operands {
  FragmentA a;
  FragmentB b;
};

inline float half_of(std::uint32_t word, int half) {
  float low, high;
  unpack_pair(word, low, high);
  return half == 0 ? low : high;
}

/// Element (row, column) of A, (row, column) of B, from what all lanes hold.
inline float element_a(const std::array<Operands, 32>& lanes, int row, int column) {
  const Operands& holder = lanes[row % 8 * 4 + column % 8 / 2];
  return half_of(holder.a.words[row / 8 + column / 8 * 2], column % 2);
}
inline float element_b(const std::array<Operands, 32>& lanes, int row, int column) {
  const Operands& holder = lanes[column * 4 + row % 8 / 2];
  return half_of(holder.b.words[row / 8], row % 2);
}

}  // namespace emulated
#endif

/// c += A B, by the whole warp.
__device__ __forceinline__ void multiply_add(float* c, const FragmentA& a, const FragmentB& b) {
#if defined(LONGHAUL_EMULATED_GPU)
  const auto lanes = emulated::gather(emulated::Operands{a, b});
  for (int i = 0; i < 4; ++i) {
    const int row = fragment_row(lane_index()) + i / 2 * 8;
    const int column = fragment_column(lane_index()) + i % 2;
    for (int k = 0; k < 16; ++k) {
      c[i] += emulated::element_a(lanes, row, k) * emulated::element_b(lanes, k, column);
    }
  }
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.words[0]), "r"(a.words[1]), "r"(a.words[2]), "r"(a.words[3]), "r"(b.words[0]),
        "r"(b.words[1]));
#endif
}

/// An address in shared memory, to which offsets can be added: 32 bits on the GPU, where a pointer
/// would take two registers.
#if defined(LONGHAUL_EMULATED_GPU)
using SharedAddress = std::byte*;
inline SharedAddress shared_address(std::byte* pointer) { return pointer; }
#else
using SharedAddress = std::uint32_t;
__device__ __forceinline__ SharedAddress shared_address(std::byte* pointer) {
  return static_cast<SharedAddress>(__cvta_generic_to_shared(pointer));
}
#endif

/// Four 8 x 8 matrices of bf16 from shared memory: lane l gives the address of row l % 8 of matrix
/// l / 8 and gets, in word m, elements (fragment_row, fragment_column) and the one beside it of
/// matrix m; `transposed`: elements (fragment_column, fragment_row) and the one below.
template <bool transposed>
__device__ __forceinline__ void load_matrices(SharedAddress row, std::uint32_t (&words)[4]) {
#if defined(LONGHAUL_EMULATED_GPU)
  const auto rows = emulated::gather(row);
  for (int matrix = 0; matrix < 4; ++matrix) {
    unsigned banks = 0;  // groups of four banks that the matrix's rows lie in
    for (int r = 0; r < 8; ++r) {
      const auto address = reinterpret_cast<std::uintptr_t>(rows[8 * matrix + r]);
      require(address % 16 == 0, "a row of a matrix is not aligned to 16 bytes");
      banks |= 1U << (address / 16 % 8);
    }
    require(banks == 0xff, "rows of a matrix share banks of shared memory");
    std::uint16_t pair[2];
    for (int i = 0; i < 2; ++i) {
      const int across = fragment_row(lane_index());
      const int along = fragment_column(lane_index()) + i;
      const std::byte* from = rows[8 * matrix + (transposed ? along : across)];
      std::memcpy(&pair[i], from + 2 * (transposed ? across : along), 2);
    }
    words[matrix] = pair[0] | static_cast<std::uint32_t>(pair[1]) << 16;
  }
#else
  if constexpr (transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(row)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(row)
                 : "memory");
  }
#endif
}

/// Begins to copy 16 bytes from global to shared memory, or, if not `exists`, to clear them; then
/// `from` is not read. Others see them after wait_for_copies() and a barrier.
__device__ __forceinline__ void copy_later(SharedAddress to, const Bfloat16* from, bool exists) {
#if defined(LONGHAUL_EMULATED_GPU)
  emulated::copy_later(to, from, exists ? 16 : 0);
#else
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to),
               "l"(__cvta_generic_to_global(from)), "r"(exists ? 16 : 0)
               : "memory");
#endif
}

/// Closes the group of copies begun since the last.
__device__ __forceinline__ void commit_copies() {
#if defined(LONGHAUL_EMULATED_GPU)
  emulated::commit_copies();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/// Waits until at most `pending` of this thread's groups are under way.
template <int pending>
__device__ __forceinline__ void wait_for_copies() {
#if defined(LONGHAUL_EMULATED_GPU)
  emulated::wait_for_copies(pending);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

}  // namespace longhaul::kernels
