#pragma once
// Hopper's warpgroup product, wgmma.mma_async, of bf16 operands with fp32 accumulators.
//
// The instruction names every register of the accumulator, so each width N has its own wrapper; the
// lists of registers are built from shorter ones by the preprocessor. Operand order (PTX ISA,
// "wgmma.mma_async", .bf16): d, a (descriptor or four registers), b descriptor, scale-d (0: d = ab,
// 1: d += ab), imm-scale-a, imm-scale-b (1: as is), imm-trans-a (shared memory only), imm-trans-b
// (1: B is N-major).

#include <cstdint>

namespace longhaul::kernels::flash {

// Names of the first registers, and the operands they stand for.
#define LONGHAUL_REGISTERS_32                                                      \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17" \
  ", %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define LONGHAUL_REGISTERS_40 \
  LONGHAUL_REGISTERS_32       \
  ", %32, %33, %34, %35, %36, %37, %38, %39"
#define LONGHAUL_REGISTERS_64                                                        \
  LONGHAUL_REGISTERS_40                                                              \
  ", %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55" \
  ", %56, %57, %58, %59, %60, %61, %62, %63"
#define LONGHAUL_REGISTERS_88                                                        \
  LONGHAUL_REGISTERS_64                                                              \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79" \
  ", %80, %81, %82, %83, %84, %85, %86, %87"
#define LONGHAUL_REGISTERS_128                                                     \
  LONGHAUL_REGISTERS_88                                                            \
  ", %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, %101, %102" \
  ", %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115" \
  ", %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define LONGHAUL_OUT_8(d, i)                                                                  \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define LONGHAUL_OUT_24(d, i) \
  LONGHAUL_OUT_8(d, i), LONGHAUL_OUT_8(d, i + 8), LONGHAUL_OUT_8(d, i + 16)
#define LONGHAUL_OUT_32(d, i) LONGHAUL_OUT_24(d, i), LONGHAUL_OUT_8(d, i + 24)
#define LONGHAUL_OUT_40(d, i) LONGHAUL_OUT_32(d, i), LONGHAUL_OUT_8(d, i + 32)
#define LONGHAUL_OUT_64(d, i) LONGHAUL_OUT_32(d, i), LONGHAUL_OUT_32(d, i + 32)
#define LONGHAUL_OUT_88(d, i) LONGHAUL_OUT_64(d, i), LONGHAUL_OUT_24(d, i + 64)
#define LONGHAUL_OUT_128(d, i) LONGHAUL_OUT_64(d, i), LONGHAUL_OUT_64(d, i + 64)

/// D[64][n] (+)= A[64][16] B[16][n], issued and not waited for. `count` registers a thread: n / 2.
template <int n>
struct Wgmma;

// N, registers, then the numbers of the operands behind them.
#define LONGHAUL_WGMMA_SHARED(N, COUNT, A, B, SCALE)                                       \
  /* Both operands in shared memory, K-major: S = Q K^T. `add` 0 begins a new sum. */      \
  static __device__ __forceinline__ void scores(float(&d)[COUNT], std::uint64_t a,         \
                                                std::uint64_t b, int add) {                \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #SCALE                               \
                 ", 0;\n"                                                                  \
                 "wgmma.mma_async.sync.aligned.m64n" #N                                    \
                 "k16.f32.bf16.bf16 "                                                      \
                 "{" LONGHAUL_REGISTERS_##COUNT "}, %" #A ", %" #B ", p, 1, 1, 0, 0;\n}\n" \
                 : LONGHAUL_OUT_##COUNT(d, 0)                                              \
                 : "l"(a), "l"(b), "r"(add));                                              \
  }
#define LONGHAUL_WGMMA_REGISTERS(N, COUNT, A0, A1, A2, A3, B, SCALE)                      \
  /* A in registers, B in shared memory, N-major: O += P V. */                            \
  static __device__ __forceinline__ void values(float(&d)[COUNT], std::uint32_t a0,       \
                                                std::uint32_t a1, std::uint32_t a2,       \
                                                std::uint32_t a3, std::uint64_t b) {      \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #SCALE                              \
                 ", 0;\n"                                                                 \
                 "wgmma.mma_async.sync.aligned.m64n" #N                                   \
                 "k16.f32.bf16.bf16 "                                                     \
                 "{" LONGHAUL_REGISTERS_##COUNT "}, {%" #A0 ", %" #A1 ", %" #A2 ", %" #A3 \
                                                "}, %" #B ", p, 1, 1, 1;\n}\n"            \
                 : LONGHAUL_OUT_##COUNT(d, 0)                                             \
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(1));                   \
  }

template <>
struct Wgmma<64> {
  LONGHAUL_WGMMA_REGISTERS(64, 32, 32, 33, 34, 35, 36, 37)
};
template <>
struct Wgmma<80> {
  LONGHAUL_WGMMA_SHARED(80, 40, 40, 41, 42)
};
template <>
struct Wgmma<128> {
  LONGHAUL_WGMMA_SHARED(128, 64, 64, 65, 66)
  LONGHAUL_WGMMA_REGISTERS(128, 64, 64, 65, 66, 67, 68, 69)
};
template <>
struct Wgmma<176> {
  LONGHAUL_WGMMA_SHARED(176, 88, 88, 89, 90)
};
template <>
struct Wgmma<256> {
  LONGHAUL_WGMMA_REGISTERS(256, 128, 128, 129, 130, 131, 132, 133)
};

// The same for e4m3 operands, 32 columns or keys a step, always K-major: there is nothing to
// transpose.
#define LONGHAUL_WGMMA_FP8(N, COUNT, A, B, SCALE, A1, A2, A3, RB, RSCALE)                \
  static __device__ __forceinline__ void scores(float(&d)[COUNT], std::uint64_t a,       \
                                                std::uint64_t b, int add) {              \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #SCALE                             \
                 ", 0;\n"                                                                \
                 "wgmma.mma_async.sync.aligned.m64n" #N                                  \
                 "k32.f32.e4m3.e4m3 "                                                    \
                 "{" LONGHAUL_REGISTERS_##COUNT "}, %" #A ", %" #B ", p, 1, 1;\n}\n"     \
                 : LONGHAUL_OUT_##COUNT(d, 0)                                            \
                 : "l"(a), "l"(b), "r"(add));                                            \
  }                                                                                      \
  static __device__ __forceinline__ void values(float(&d)[COUNT], std::uint32_t a0,      \
                                                std::uint32_t a1, std::uint32_t a2,      \
                                                std::uint32_t a3, std::uint64_t b) {     \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #RSCALE                            \
                 ", 0;\n"                                                                \
                 "wgmma.mma_async.sync.aligned.m64n" #N                                  \
                 "k32.f32.e4m3.e4m3 "                                                    \
                 "{" LONGHAUL_REGISTERS_##COUNT "}, {%" #A ", %" #A1 ", %" #A2 ", %" #A3 \
                                                "}, "                                    \
                                                "%" #RB ", p, 1, 1;\n}\n"                \
                 : LONGHAUL_OUT_##COUNT(d, 0)                                            \
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(1));                  \
  }
template <int n>
struct WgmmaFp8;
template <>
struct WgmmaFp8<128> {
  LONGHAUL_WGMMA_FP8(128, 64, 64, 65, 66, 65, 66, 67, 68, 69)
};
#undef LONGHAUL_WGMMA_FP8

#undef LONGHAUL_WGMMA_SHARED
#undef LONGHAUL_WGMMA_REGISTERS

#undef LONGHAUL_REGISTERS_32
#undef LONGHAUL_REGISTERS_40
#undef LONGHAUL_REGISTERS_64
#undef LONGHAUL_REGISTERS_88
#undef LONGHAUL_REGISTERS_128
#undef LONGHAUL_OUT_8
#undef LONGHAUL_OUT_24
#undef LONGHAUL_OUT_32
#undef LONGHAUL_OUT_40
#undef LONGHAUL_OUT_64
#undef LONGHAUL_OUT_88
#undef LONGHAUL_OUT_128

/// Orders accesses to registers before the products that are issued next (PTX ISA, "wgmma.fence").
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

/// Closes a group of products.
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/// Waits until at most `running` of the newest groups still run.
template <int running>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(running) : "memory");
}

/// Keeps the compiler from moving uses of registers across this point: it does not know that an
/// issued product goes on writing them.
template <int count>
__device__ __forceinline__ void pin(float (&registers)[count]) {
#pragma unroll
  for (int i = 0; i < count; ++i) asm volatile("" : "+f"(registers[i])::"memory");
}
template <int count>
__device__ __forceinline__ void pin(std::uint32_t (&registers)[count]) {
#pragma unroll
  for (int i = 0; i < count; ++i) asm volatile("" : "+r"(registers[i])::"memory");
}

}  // namespace longhaul::kernels::flash
