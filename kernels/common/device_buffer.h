#pragma once
// Memory on the GPU that frees itself, comes poisoned, and notices writes past its end.

#include <cstddef>
#include <cstring>
#include <vector>

#include "kernels/common/cuda_error.h"

namespace longhaul::kernels {

/// `size` elements of T in global memory, filled with bytes 0xff: a NaN in bf16, fp16, e4m3, fp32
/// and fp64, so that an output which a kernel forgot to write fails every comparison. A guard of
/// 256 such bytes lies behind the last element; see overran().
/// Throws CudaError where memory is lacking.
template <class T>
class DeviceBuffer {
 public:
  explicit DeviceBuffer(std::size_t size) : size_(size) {
    check_cuda(cudaMalloc(reinterpret_cast<void**>(&data_), bytes() + guard_bytes), "cudaMalloc");
    poison();
  }
  explicit DeviceBuffer(const std::vector<T>& values) : DeviceBuffer(values.size()) {
    upload(values);
  }
  ~DeviceBuffer() { cudaFree(data_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  DeviceBuffer(DeviceBuffer&& other) noexcept : data_(other.data_), size_(other.size_) {
    other.data_ = nullptr;
    other.size_ = 0;
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::size_t bytes() const { return size_ * sizeof(T); }

  /// Fills elements and guard with bytes 0xff again.
  void poison() { check_cuda(cudaMemset(data_, 0xff, bytes() + guard_bytes), "cudaMemset"); }

  /// Copies `values` (as many as size()) to the GPU.
  void upload(const std::vector<T>& values) {
    check_cuda(cudaMemcpy(data_, values.data(), bytes(), cudaMemcpyHostToDevice), "cudaMemcpy");
  }

  /// The elements as they are now; waits for all work queued before.
  std::vector<T> download() const {
    std::vector<T> values(size_);
    check_cuda(cudaMemcpy(values.data(), data_, bytes(), cudaMemcpyDeviceToHost), "cudaMemcpy");
    return values;
  }

  /// True if a kernel wrote into the guard.
  bool overran() const {
    std::vector<unsigned char> guard(guard_bytes);
    const auto* end = reinterpret_cast<const unsigned char*>(data_) + bytes();
    check_cuda(cudaMemcpy(guard.data(), end, guard_bytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
    for (const unsigned char byte : guard) {
      if (byte != 0xff) return true;
    }
    return false;
  }

 private:
  static constexpr std::size_t guard_bytes = 256;
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace longhaul::kernels
