#pragma once
// A failed call of the CUDA runtime, as an exception.

#include <stdexcept>
#include <string>

#include <cuda_runtime_api.h>

namespace longhaul::kernels {

/// What the CUDA runtime answered other than success.
class CudaError : public std::runtime_error {
 public:
  CudaError(cudaError_t code, const std::string& doing)
      : std::runtime_error(doing + ": " + cudaGetErrorString(code)), code_(code) {}
  cudaError_t code() const { return code_; }

 private:
  cudaError_t code_;
};

/// Throws CudaError unless `code` is success. `doing` says what was tried, for the message.
inline void check_cuda(cudaError_t code, const char* doing) {
  if (code != cudaSuccess) throw CudaError(code, doing);
}

/// Throws CudaError if the last kernel launch was refused. Does not wait for the kernel.
inline void check_launch(const char* kernel) { check_cuda(cudaGetLastError(), kernel); }

}  // namespace longhaul::kernels
