"""Two CUDA kernels that PyTorch does not offer: an empty one, and one that holds SMs."""
import ctypes
import os
import subprocess
import tempfile

import torch

HELPER = r"""
#include <cuda_runtime.h>
// One block per held SM: copies (or, with no words, only spins) until its time is over, then says
// what it did.
struct Report { unsigned long long start_ns, end_ns, bytes, sm; };
__device__ unsigned long long now() {
    unsigned long long t;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(t));
    return t;
}
__global__ void hold(const uint4* src, uint4* dst, size_t words, unsigned long long ns,
                     Report* report) {
    __shared__ int going;
    const size_t chunk = size_t(blockDim.x) * 8;
    unsigned long long start = now(), moved = 0;
    size_t at = blockIdx.x * chunk;
    for (;;) {
        __syncthreads();
        if (threadIdx.x == 0) going = now() - start < ns;
        __syncthreads();
        if (!going) break;
        for (int round = 0; words && round < 4; ++round) {
            uint4 v[8];
            for (int i = 0; i < 8; ++i) v[i] = src[at + i * blockDim.x + threadIdx.x];
            for (int i = 0; i < 8; ++i) dst[at + i * blockDim.x + threadIdx.x] = v[i];
            moved += chunk * sizeof(uint4);
            at += gridDim.x * chunk;
            if (at + chunk > words) at = blockIdx.x * chunk;
        }
    }
    unsigned sm; asm volatile("mov.u32 %0, %smid;" : "=r"(sm));
    if (threadIdx.x == 0) report[blockIdx.x] = {start, now(), moved, sm};
}
__global__ void empty() {}
extern "C" int launch_hold(void* src, void* dst, size_t bytes, double us, void* report, int blocks,
                           int shared, void* stream) {
    cudaError_t set =
        cudaFuncSetAttribute(hold, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
    if (set != cudaSuccess) return set;
    hold<<<blocks, 1024, shared, cudaStream_t(stream)>>>(
        (const uint4*)src, (uint4*)dst, bytes / 16, (unsigned long long)(us * 1e3),
        (Report*)report);
    return cudaGetLastError();
}
extern "C" int launch_empty(void* stream) {
    empty<<<1, 32, 0, cudaStream_t(stream)>>>();
    return cudaGetLastError();
}
"""


def build_helper(capability):
    """Compile HELPER with nvcc into a temporary folder and load it."""
    folder = tempfile.mkdtemp()
    source, library = os.path.join(folder, "helper.cu"), os.path.join(folder, "helper.so")
    open(source, "w").write(HELPER)
    nvcc = "nvcc" if not os.path.exists("/usr/local/cuda/bin/nvcc") else "/usr/local/cuda/bin/nvcc"
    subprocess.run(
        [
            nvcc,
            "-O3",
            "-shared",
            "-Xcompiler",
            "-fPIC",
            f"-arch=sm_{capability}",
            source,
            "-o",
            library,
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    lib = ctypes.CDLL(library)
    lib.launch_hold.argtypes = [
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_double,
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_void_p,
    ]
    lib.launch_empty.argtypes = [ctypes.c_void_p]
    return lib


def helper_for_device():
    major, minor = torch.cuda.get_device_capability()
    return build_helper(major * 10 + minor)


def checked(code, what):
    if code:
        raise RuntimeError(f"{what}: code {code}")


def stream_pointer(stream=None):
    return (stream or torch.cuda.current_stream()).cuda_stream
