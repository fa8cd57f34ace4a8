#pragma once
// Functions that run on the GPU and, for tests without one, on the CPU.

#if defined(__CUDACC__)
#define LONGHAUL_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define LONGHAUL_HOST_DEVICE inline
#endif

// Before a loop whose array must stay in registers.
#if defined(__CUDA_ARCH__)
#define LONGHAUL_UNROLL _Pragma("unroll")
#else
#define LONGHAUL_UNROLL
#endif
