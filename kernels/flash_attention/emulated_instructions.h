#pragma once
// What ptx.cuh and wgmma.cuh declare, for the emulated GPU: forward.cuh, as it stands, run by
// fibers on the CPU. Copies and products are done when they are issued; that they may be late is
// what tests/kernels/flash_emulation.h covers.

#include <array>
#include <cmath>
#include <cstdint>
#include <map>
#include <utility>

#include "kernels/common/bfloat16.h"
#include "kernels/common/emulated_gpu.h"
#include "kernels/common/emulated_hopper.h"
#include "sim/units/check.h"

#define __grid_constant__

namespace longhaul::kernels::flash {

/// CUDA's vector types.
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) uint4 {
  std::uint32_t x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline uint4 make_uint4(std::uint32_t x, std::uint32_t y, std::uint32_t z, std::uint32_t w) {
  return {x, y, z, w};
}
// Only one thread runs at a time.
inline int atomicAdd(int* to, int value) { return std::exchange(*to, *to + value); }
inline int atomicExch(int* to, int value) { return std::exchange(*to, value); }

/// The running block's hardware. Reset by its first init_barrier.
struct EmulatedSm {
  EmulatedMemory memory{0};
  std::map<std::uint32_t, EmulatedBarrier> barriers;
  std::map<int, EmulatedNamedBarrier> named;
  long idle_polls = 0;
  int registers = 0;  // given back and not taken, in units of a warp's thread
};
inline EmulatedSm& sm() {
  static EmulatedSm instance;
  return instance;
}

/// Addresses begin away from 0, and not at a multiple of 1024, as the kernel must align them.
inline std::uint32_t shared_address(const void*) { return 1040; }

inline void init_barrier(std::uint32_t barrier, int arrivals) {
  sm().barriers.insert_or_assign(barrier, EmulatedBarrier(arrivals));
}
inline void publish_barriers() {}
inline void arrive(std::uint32_t barrier) {
  sm().idle_polls = 0;
  sm().barriers.at(barrier).arrive();
}
inline void arrive_expecting(std::uint32_t barrier, int bytes) {
  sm().idle_polls = 0;
  sm().barriers.at(barrier).arrive_expecting(bytes);
}
inline bool phase_over(std::uint32_t barrier, int parity) {
  if (sm().barriers.at(barrier).over(parity)) return true;
  constexpr long patience = 2000000;  // polls of all threads without one arrival
  check(++sm().idle_polls < patience, "all threads wait for a barrier in vain");
  emulated::yield_turn();
  return false;
}

inline void copy_box(const EmulatedTensor& map, std::uint32_t barrier, std::uint32_t destination,
                     int column, int row, int head, int batch) {
  sm().memory.copy_box(map, destination, map.box_rows, column, row, head, batch);
  sm().barriers.at(barrier).complete(map.box_rows * 128);
}
inline void store_shared(std::uint32_t address, int value) {
  sm().memory.store_word(address, static_cast<std::uint32_t>(value));
}
inline int load_shared(std::uint32_t address) {
  return static_cast<int>(sm().memory.load_word(address));
}
inline void prefetch_map(const EmulatedTensor&) {}

inline void named_arrive(int barrier, int threads) {
  sm().idle_polls = 0;
  sm().named[barrier].arrive(threads, 1);
}
inline void named_wait(int barrier, int threads) {
  sm().idle_polls = 0;
  const int round = sm().named[barrier].arrive(threads, 1);
  while (!sm().named[barrier].over(round)) emulated::yield_turn();
}

template <int registers>
void shrink_registers() {}
template <int registers>
void grow_registers() {}

inline std::uint32_t pack_bf16(float low, float high) {
  return to_bfloat16(low).bits | static_cast<std::uint32_t>(to_bfloat16(high).bits) << 16;
}

inline std::uint32_t pack_fp8(float a, float b, float c, float d) {
  const float values[] = {a, b, c, d};
  std::uint32_t packed = 0;
  for (int i = 0; i < 4; ++i) {
    packed |= static_cast<std::uint32_t>(to_float8(values[i]).bits) << (8 * i);
  }
  return packed;
}
inline void publish_to_products() {}

/// The thread's part of D (+)= A B over `depth` summed columns; `a(row, k)`, `b(column, k)` give the
/// elements. `thread` of a warpgroup (64 rows) or of a warp (16 rows, as if it were the first).
template <int depth, int count, class A, class B>
inline void add_products(float (&d)[count], bool add, int thread, const A& a, const B& b) {
  for (int i = 0; i < count; ++i) {
    const int row = accumulator_row(thread / 32, thread % 32, i);
    const int column = accumulator_column(thread % 32, i);
    float sum = add ? d[i] : 0.0f;
    for (int k = 0; k < depth; ++k) sum += a(row, k) * b(column, k);
    d[i] = sum;
  }
}

template <int n>
struct Wgmma {
  static void scores(float (&d)[n / 2], std::uint64_t a, std::uint64_t b, int add) {
    add_products<16>(
        d, add != 0, static_cast<int>(threadIdx.x % 128),
        [&](int row, int k) { return sm().memory.k_major(a, row, k); },
        [&](int column, int k) { return sm().memory.k_major(b, column, k); });
  }
  static void values(float (&d)[n / 2], std::uint32_t a0, std::uint32_t a1, std::uint32_t a2,
                     std::uint32_t a3, std::uint64_t b) {
    const auto a = emulated::gather(std::array<std::uint32_t, 4>{a0, a1, a2, a3});
    add_products<16>(
        d, true, static_cast<int>(threadIdx.x % 32),
        [&](int row, int k) {
          // Registers 0 and 2 hold the upper eight rows, 0 and 1 the first eight columns.
          const std::uint32_t pair = a[row % 8 * 4 + k % 8 / 2][k / 8 * 2 + row / 8];
          return to_float(Bfloat16{static_cast<std::uint16_t>(k % 2 == 0 ? pair : pair >> 16)});
        },
        [&](int column, int k) { return sm().memory.n_major(b, k, column); });
  }
};

/// Operands of e4m3: 32 columns a step, always K-major.
template <int n>
struct WgmmaFp8 {
  static void scores(float (&d)[n / 2], std::uint64_t a, std::uint64_t b, int add) {
    add_products<32>(
        d, add != 0, static_cast<int>(threadIdx.x % 128),
        [&](int row, int k) { return sm().memory.k_major_float8(a, row, k); },
        [&](int column, int k) { return sm().memory.k_major_float8(b, column, k); });
  }
  static void values(float (&d)[n / 2], std::uint32_t a0, std::uint32_t a1, std::uint32_t a2,
                     std::uint32_t a3, std::uint64_t b) {
    const auto a = emulated::gather(std::array<std::uint32_t, 4>{a0, a1, a2, a3});
    add_products<32>(
        d, true, static_cast<int>(threadIdx.x % 32),
        [&](int row, int k) {
          // Thread t of a quad holds columns 4t ... 4t + 3 of the first 16, then of the others (PTX
          // ISA, "Matrix Fragments for wgmma.mma_async.m64nNk32").
          const std::uint32_t four = a[row % 8 * 4 + k % 16 / 4][k / 16 * 2 + row / 8];
          return to_float(Float8{static_cast<std::uint8_t>(four >> (k % 4 * 8))});
        },
        [&](int column, int k) { return sm().memory.k_major_float8(b, column, k); });
  }
};

inline void wgmma_fence() {}
inline void wgmma_commit() {}
template <int running>
void wgmma_wait() {}
template <class Registers>
void pin(Registers&) {}

}  // namespace longhaul::kernels::flash
