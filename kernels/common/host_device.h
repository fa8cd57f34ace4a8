#pragma once
// Functions that run on the GPU and, for tests without one, on the CPU.

#if defined(__CUDACC__)
#define LONGHAUL_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define LONGHAUL_HOST_DEVICE inline
#endif
