#pragma once
// Functions that run on the GPU and, for tests without one, on the CPU.

#if defined(__CUDACC__)
#define LONGHAUL_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define LONGHAUL_HOST_DEVICE inline
#endif

// Unrolls the loop behind it, so that arrays indexed by its variable stay in registers. Not in the
// host's pass of nvcc, whose compiler warns of the pragma.
#if defined(__CUDA_ARCH__)
#define LONGHAUL_UNROLL _Pragma("unroll")
#else
#define LONGHAUL_UNROLL
#endif
